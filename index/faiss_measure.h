/* Measures the recall curve of FAISS's cells. */
#ifndef SEM_INDEX_FAISS_MEASURE_H
#define SEM_INDEX_FAISS_MEASURE_H

#include "index/faiss_cells.h"

/* Takes live rows below seen as queries, each document left out of its own results, and
 * logged ones; compares what each number of cells finds with exact search, and keeps that
 * in f->curve. Index thread, with helpers. */
sem_status faiss_measure(faiss_cells *f, const training *t, uint32_t seen, sem_error *err);

#endif
