/* FAISS's cells in a file, so that a start need not make them again: what lists_file.h
 * is for our own lists. Rows are told as there, by the slot that each had: which of them
 * live, and which are new, shows in the store. docs/format.md has the bytes. */
#ifndef SEM_INDEX_FAISS_FILE_H
#define SEM_INDEX_FAISS_FILE_H

#include "base/status.h"
#include "index/faiss_cells.h"
#include "index/lists_file.h"
#include "index/rows.h"

/* Replaces the file by cells that nobody else uses meanwhile, of these rows: beside it
 * first, then in its place. */
sem_status faiss_file_save(const char *path, faiss_cells *f, const rows *r, sem_error *err);

/* *out and known->docnos, ->slots and ->rows are the caller's to free; known->lists is NULL.
 * SEM_NOT_FOUND: there is none. SEM_INTERNAL: it is damaged, of another version, or of
 * other vectors or codes than the options say; the error says what is wrong. FAISS reads
 * nothing whose checksum is wrong. */
sem_status faiss_file_load(const char *path, const vector_index_options *options, faiss_cells **out, lists_file *known,
                           sem_error *err);

#endif
