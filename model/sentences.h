/* Where sentences end in plain text of any language, by simple rules:
 * - a full stop, exclamation or question mark of any script ends a sentence, with
 *   the marks and closing quotes or brackets behind it, where white space follows;
 *   those of Chinese and Japanese need no space;
 * - a full stop does not after a common abbreviation, after one capital letter, or
 *   after a short word where a small letter goes on;
 * - an empty line ends one, and a single line break where no small letter goes on
 *   (headings and lists stand in lines, prose may be wrapped). */
#ifndef SEM_MODEL_SENTENCES_H
#define SEM_MODEL_SENTENCES_H

#include <stddef.h>

/* Where the sentence that begins at `from` ends: behind its last mark, or `length` at
 * the latest, and always above `from` where from < length. White space that separates
 * it from the next is the next one's. text is valid UTF-8 and `from` lies between two
 * of its characters. Going on from what is returned, all of a text takes linear time. */
size_t sentence_end(const char *text, size_t length, size_t from);

/* The range from..*to of text without white space at its ends: returns where it then
 * begins. What is only white space becomes empty. */
size_t sentence_trim(const char *text, size_t from, size_t *to);

/* The largest position in from < p <= from + limit at which no word is cut, else no
 * character; beyond the limit only where one character is longer. `length` if that is within. */
size_t sentence_cut(const char *text, size_t length, size_t from, size_t limit);

#endif
