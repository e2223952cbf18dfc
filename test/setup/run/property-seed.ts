import fc from 'fast-check';
import { runSeed } from '../depth.ts';

// Property tests draw from the run's seed, too. fast-check prints the seed and the path of a counterexample.
fc.configureGlobal({ ...fc.readConfigureGlobal(), seed: runSeed });
