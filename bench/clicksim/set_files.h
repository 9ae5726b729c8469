/* The sets that are read from files of a folder with data. */
#ifndef SEM_BENCH_CLICKSIM_SET_FILES_H
#define SEM_BENCH_CLICKSIM_SET_FILES_H

#include "bench/clicksim/world.h"

/* From FOLDER/medquad/pairs.jsonl. Equal answers are one document, and all answers to an equal
 * question are right. documents: at most so many, GARD's first; 0: all. */
sem_status set_files_medquad(world *w, const char *folder, size_t documents, sem_error *err);

/* From FOLDER/cranfield. Documents that were judged and found of no interest stay. */
sem_status set_files_cranfield(world *w, const char *folder, sem_error *err);

#endif
