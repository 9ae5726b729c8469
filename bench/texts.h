/* The texts that a benchmark goes through, from a file. */
#ifndef SEM_BENCH_TEXTS_H
#define SEM_BENCH_TEXTS_H

#include <stdbool.h>
#include <stddef.h>

/* Takes one text, which ends with a NUL and is gone afterwards; false ends the reading. */
typedef bool texts_take(void *context, const char *text, size_t length);

/* Calls take() with the field "text" of each line of a .jsonl, or each line of another file: of the
 * first `most`. False where the file cannot be read, a line has no text, there is none or take()
 * failed. */
bool texts_read(const char *path, size_t most, texts_take *take, void *context);

#endif
