/* More pieces for a WordPiece or Unigram vocabulary: those of new languages, behind the
 * ids that are there. A text in which none of the new pieces is found keeps its ids. */
#ifndef SEM_MODEL_VOCAB_EXTEND_H
#define SEM_MODEL_VOCAB_EXTEND_H

#include "base/status.h"

#include <jansson.h>

#include <stddef.h>
#include <stdint.h>

/* As SentencePiece has them: U+2581 stands where a word begins. */
typedef struct vocab_piece {
    char *text;   /* UTF-8 */
    double score; /* natural log of its probability among the pieces it was found with */
} vocab_piece;

/* What was added: piece `first + i` stands for what was cut into the pieces
 * sources[starts[i]] to sources[starts[i + 1]], at least one. */
typedef struct vocab_extension {
    size_t first; /* id of the first new piece */
    size_t count;
    int32_t *sources;
    size_t *starts; /* [count + 1] */
    size_t known;   /* of the given pieces: those that were there, and those that would never be chosen */
} vocab_extension;

/* Adds those of pieces [count] that are not there, in their order, to the object that was read
 * from a tokenizer.json (whose tokenizer has been opened); where names the file. WordPiece
 * also gets each character of its pieces as the middle of a word where that is missing: a word
 * that begins with a new piece can then always be finished.
 * SEM_INVALID_ARGUMENT for another kind of vocabulary. To be freed also after a failure. */
sem_status vocab_extend(json_t *root, const vocab_piece *pieces, size_t count, const char *where, vocab_extension *out,
                        sem_error *err);
void vocab_extension_free(vocab_extension *e);

#endif
