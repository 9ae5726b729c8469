/* A directory of two models that share a vector space, one for queries and one for documents:
 * what sentence-transformers calls a Router. Here each tower is an ordinary directory of its own,
 * which sentence-transformers opens as well as the whole. */
#ifndef SEM_MODEL_TOWERS_H
#define SEM_MODEL_TOWERS_H

#include "base/files.h"
#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>

typedef enum model_tower { TOWER_QUERY, TOWER_DOCUMENT } model_tower;

/* Whether dir is such a directory, whoever wrote it. */
bool towers_are(const char *dir);

/* Where the tower lies that dir has: a folder in it, or dir itself where it is no such directory
 * but a model for both. Of a directory that towers_join() or towers_copy() wrote. Any thread. */
sem_status towers_folder(char out[FILES_PATH_MAX], const char *dir, model_tower which, sem_error *err);

/* Makes of dir, a model for queries that semd saved, a directory of two towers: it and `documents`, a
 * model directory, whose files are linked where the disk can do that. What a crash leaves of dir is
 * one of the two, whole, or nothing, and beside it folders of its name with "-towers" and "-alone"
 * behind, which are the caller's to remove. */
sem_status towers_join(const char *dir, const char *documents, sem_error *err);

/* Whether the directory names a tower for queries and one for documents, of modules that are
 * there. What is in them is not looked at. SEM_INVALID_ARGUMENT names what is wrong. */
sem_status towers_check(const char *dir, sem_error *err);

/* Copies such a directory, whoever wrote it, to a new path in the form that towers_folder() knows. SEM_CANCELLED soon
 * after *cancel (which may be NULL) was set: what was copied until then stays. */
sem_status towers_copy(const char *from, const char *to, const atomic_bool *cancel, sem_error *err);

#endif
