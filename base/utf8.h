/* UTF-8 as RFC 3629 defines it: no overlong forms, no surrogates, at most U+10FFFF. */
#ifndef SEM_BASE_UTF8_H
#define SEM_BASE_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* True if all size bytes form valid UTF-8. NUL is valid here. Linear time. */
bool utf8_valid(const void *data, size_t size);

/* Decodes the character at text (size >= 1 bytes left, known to be valid
 * UTF-8) into *code and returns its length in bytes, 1 to 4. */
size_t utf8_decode(const char *text, size_t size, uint32_t *code);

/* Writes code (a valid scalar value) as 1 to 4 bytes and returns how many. */
size_t utf8_encode(uint32_t code, char out[4]);

/* Makes text valid: where it is not, every byte beyond ASCII becomes '?'. */
void utf8_repair(char *text, size_t size);

/* The largest length <= limit at which text can be cut without splitting a character. */
size_t utf8_cut(const char *text, size_t size, size_t limit);

#endif
