/* FAISS's error codes and messages as ours. */
#ifndef SEM_INDEX_FAISS_CALL_H
#define SEM_INDEX_FAISS_CALL_H

#include "base/status.h"

/* code is what a faiss_* function of this thread returned; 0 is SEM_OK. `what`
 * says what was tried ("training k-means"). */
sem_status faiss_check(int code, const char *what, sem_error *err);

/* How many OpenMP threads FAISS may use when it is called from this thread:
 * libgomp keeps that number per calling thread. */
void faiss_use_threads(unsigned threads);

#endif
