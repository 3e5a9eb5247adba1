/** Text from outside (names of files and classes, messages of damaged files) as a terminal or a page may show it. */

/**
 * Characters that do something instead of being seen: controls, ESC and line breaks among them, halves of surrogate pairs,
 * and those that turn the direction of writing, by which a name can look like another.
 */
const acting = /[\p{Cc}\p{Cs}\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/gu;

/** The text with such characters as escapes: `\x1b`, `\n`, `\u202e`. */
export function printable(text: string): string {
  return text.replace(acting, (character) => {
    const code = character.charCodeAt(0);
    if (code < 0x100) return escapes[character] ?? `\\x${code.toString(16).padStart(2, "0")}`;
    return `\\u${code.toString(16).padStart(4, "0")}`;
  });
}

/** The same of text whose line breaks are the program's own. */
export function printableLines(text: string): string {
  return text.split("\n").map(printable).join("\n");
}

const escapes: Readonly<Record<string, string>> = { "\n": "\\n", "\r": "\\r", "\t": "\\t" };
