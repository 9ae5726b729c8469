/* What a run trains on, in a file: so that a run that goes on in another process has the same
 * pairs, whatever became of documents, clicks and indices meanwhile. For the machine that wrote it. */
#ifndef SEM_FINETUNE_LESSON_FILE_H
#define SEM_FINETUNE_LESSON_FILE_H

#include "base/status.h"
#include "finetune/checkpoint.h"
#include "finetune/trainer.h"

#include <stddef.h>

typedef struct lesson_file {
    train_pair *pairs; /* [count] owned; what they point to lies in the file, mapped, and in negatives */
    size_t count;
    train_negative *negatives; /* owned */
    checkpoint_reader *reader; /* owned */
} lesson_file;

/* Writes pairs [count] with their negatives and, where they have them, vectors of dim floats; durably,
 * in the place of what was there. A text or vector that several point to is written once. */
sem_status lesson_file_write(const char *path, const train_pair *pairs, size_t count, size_t dim, sem_error *err);

/* SEM_NOT_FOUND where there is none, SEM_FAILED_PRECONDITION for one that is damaged or whose vectors have
 * another width. To be freed after success. */
sem_status lesson_file_read(lesson_file *out, const char *path, size_t dim, sem_error *err);
void lesson_file_free(lesson_file *l);

#endif
