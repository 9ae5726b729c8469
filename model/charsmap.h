/* SentencePiece's precompiled character map: a trie from sequences of characters
 * to what replaces them, as google/sentencepiece writes it (a double array in
 * darts-clone's format, then the replacements, each ended by a NUL). */
#ifndef SEM_MODEL_CHARSMAP_H
#define SEM_MODEL_CHARSMAP_H

#include "base/buffer.h"
#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct charsmap {
    unsigned char *blob; /* the decoded file, owned; a NUL follows it */
    size_t units;        /* of the double array, which begins at blob + 4 */
    const char *texts;   /* in blob */
    size_t texts_size;
    int32_t *single; /* [65536]: offset in texts of what replaces one character, or -1; owned */
} charsmap;

/* base64 is what tokenizer.json holds; where names the file. */
sem_status charsmap_create(charsmap *out, const char *base64, const char *where, sem_error *err);
void charsmap_free(charsmap *map);

/* Appends the normalized text. Grapheme clusters of less than 6 bytes are
 * replaced as a whole by what their shortest known beginning stands for, longer
 * ones character by character: so the reference does. Linear in length. False
 * when memory is out. */
bool charsmap_apply(const charsmap *map, const char *text, size_t length, buffer *out);

#endif
