/* The tables of one collection in the lexical index, for the thread that writes
 * them. Nothing outside index/lexical_*.c includes it. docs/lexical.md describes
 * them.
 *
 * All calls but the first two stand inside a transaction of the connection. */
#ifndef SEM_INDEX_LEXICAL_TABLES_H
#define SEM_INDEX_LEXICAL_TABLES_H

#include "base/docid.h"
#include "index/lexical_db.h"
#include "index/lexical_terms.h"

typedef struct lexical_tables {
    uint32_t number; /* of the collection */
    uint64_t documents, tokens;
    bool building; /* documents after `built` are not in yet */
    unsigned char built[DOCID_KEY_MAX];
    size_t built_length;
    bool changed; /* against what the table of collections says */
    sqlite3_stmt *statements[8];
    lexical_terms *changes; /* of terms; NULL until there is one */
} lexical_tables;

/* Finalizes statements and forgets what was not flushed. */
void lexical_tables_rest(lexical_tables *t);
void lexical_tables_free(lexical_tables *t);

sem_status lexical_tables_create(lexical_db *db, lexical_tables *t, sem_error *err);
sem_status lexical_tables_drop(lexical_db *db, lexical_tables *t, sem_error *err);

/* The version of the text that is in for the document; 0: none. */
sem_status lexical_tables_version(lexical_db *db, lexical_tables *t, uint32_t docno, uint64_t *version, sem_error *err);
sem_status lexical_tables_insert(lexical_db *db, lexical_tables *t, uint32_t docno, uint64_t version, const char *text,
                                 size_t length, sem_error *err);
/* text: that which was inserted; NULL: it is lost, and its postings stay until
 * the index is built anew. */
sem_status lexical_tables_delete(lexical_db *db, lexical_tables *t, uint32_t docno, const char *text, size_t length,
                                 sem_error *err);
/* The same text has a new version. */
sem_status lexical_tables_set_version(lexical_db *db, lexical_tables *t, uint32_t docno, uint64_t version,
                                      sem_error *err);
/* Writes how many documents hold each term, and the collection's own record. */
sem_status lexical_tables_flush(lexical_db *db, lexical_tables *t, sem_error *err);

#endif
