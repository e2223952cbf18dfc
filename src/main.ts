#!/usr/bin/env node
import { runProgram } from './cli/program.ts';

// Only a main file uses the global `process`. All other code gets what it needs as a value.
await runProgram(process, process.argv.slice(2));
