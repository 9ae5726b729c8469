/* Another program as a child, for what it does better. */
#ifndef SEM_TOOLS_SEMTRAIN_CHILD_H
#define SEM_TOOLS_SEMTRAIN_CHILD_H

#include "base/status.h"

/* Runs arguments[0], found as a shell would, with arguments (NULL behind the last), nothing to
 * read and its output in the file log, and waits until it ends. SEM_NOT_FOUND where there
 * is no such program (package: who has it); SEM_INTERNAL with its last words where it fails. */
sem_status child_run(const char *const *arguments, const char *package, const char *log, sem_error *err);

#endif
