/** Returns whether the text has a control character, which no setting may contain. */
export function hasControlCharacter(text: string): boolean {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: the expression looks for control characters
  return /[\u0000-\u001f\u007f-\u009f]/.test(text);
}
