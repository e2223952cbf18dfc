#!/usr/bin/env node
import { runProgram } from './cli/program.ts';
import { keepObjectsYoung } from './young-generation.ts';

keepObjectsYoung();
// Only a main file uses the global `process`. All other code gets what it needs as a value.
await runProgram(process, process.argv.slice(2));
