/* Lists in a file, so that a start need not make them again: a cache of what the
 * store has, named after its space and collection, which are never used again.
 *
 * The file says for each row that the lists cover which document and slot it was.
 * A slot is never overwritten, so what has become of a row since shows in the
 * store's places alone: a row whose document has another slot by now, or none, is
 * dead, and a document that no row of the file has is new. docs/format.md has the
 * bytes. */
#ifndef SEM_INDEX_LISTS_FILE_H
#define SEM_INDEX_LISTS_FILE_H

#include "base/status.h"
#include "index/lists.h"
#include "index/rows.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What a file of lists will say, noted before anybody else has them: from then on rows may be
 * appended, which the file will not have. */
typedef struct lists_saving lists_saving;

/* Of lists that nobody changes meanwhile, of these rows. l must outlive it. */
sem_status lists_saving_start(lists_saving **out, const lists *l, const rows *r, sem_error *err);
/* Of the file that will be written, about. */
uint64_t lists_saving_bytes(const lists_saving *v);
/* Replaces the file, once for each saving: beside it first, then in its place. One thread,
 * while others search and append. */
sem_status lists_saving_write(lists_saving *v, const char *path, sem_error *err);
void lists_saving_end(lists_saving *v); /* accepts NULL */

/* What was read: lists that cover `rows` rows, which were of these documents. Their blocks and
 * nibbles are mapped, and found damaged only when they are looked at (lists_damaged). */
typedef struct lists_file {
    lists *lists;
    uint32_t rows;
    uint32_t *docnos, *slots; /* [rows] */
} lists_file;

/* SEM_NOT_FOUND: there is none. SEM_INTERNAL: it is damaged, of another version of
 * semd or of other vectors; the error says what is wrong. */
sem_status lists_file_load(const char *path, size_t dim, bool dot, lists_file *out, sem_error *err);
/* Memory for what is known of so many rows, in a zeroed one; lists_file_free() frees it. */
sem_status lists_file_reserve(lists_file *f, uint32_t count, sem_error *err);
/* That such a file is not to be used, and why: SEM_INTERNAL. */
sem_status lists_file_refuse(const char *path, const char *why, sem_error *err);
void lists_file_free(lists_file *f); /* lists too, unless they were taken (NULL) */

/* Rows in the order of the file, dead where their document has another slot by now,
 * and behind them those of `from` that the file does not know. *seen: how many rows
 * of `from` were looked at, as compaction_copy has it. */
sem_status lists_file_rows(const lists_file *f, const rows *from, rows **out, uint32_t *seen, sem_error *err);

#endif
