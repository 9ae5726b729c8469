/* A model with more pieces in its vocabulary. */
#ifndef SEM_MODEL_MODEL_EXTEND_H
#define SEM_MODEL_MODEL_EXTEND_H

#include "model/model.h"
#include "model/vocab_extend.h"

typedef struct extend_report {
    size_t added, known;      /* pieces */
    size_t rows_before, rows; /* of the token table */
} extend_report;

/* Writes m, with those of pieces [count] that its vocabulary lacks, to the new directory `to`: the
 * vector of each is the mean of those of the old pieces that stood for it. All texts without
 * new pieces have the embeddings that they had. Files that hold the vocabulary once more
 * are brought up to date (vocab.txt), or left out where only SentencePiece can write them. */
sem_status model_save_extended(const model *m, const char *to, const vocab_piece *pieces, size_t count,
                               extend_report *report, sem_error *err);

#endif
