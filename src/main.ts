#!/usr/bin/env node
import { commands } from './cli/commands.ts';
import { runProgram } from './cli/program.ts';

// Only a main file touches the process: it hands environment, signals, streams and exit to the run loop.
await runProgram(process, commands, process.argv.slice(2));
