/* The lexical index's SQLite file: a connection, its errors and its tokenizer.
 * Nothing outside index/lexical_*.c includes it. docs/lexical.md has the tables.
 *
 * A connection belongs to one thread at a time. */
#ifndef SEM_INDEX_LEXICAL_DB_H
#define SEM_INDEX_LEXICAL_DB_H

#include "base/status.h"

#include <sqlite3.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    LEXICAL_FORMAT = 1,
    LEXICAL_TOKEN_MAX = 32768, /* bytes: FTS5 cuts longer tokens */
    LEXICAL_CLASS_BITS = 8     /* the lower bits of a row's number: the class of the text's length */
};

/* What both sides name a file's tables by. */
#define LEXICAL_FILE "lexical/index.db"

typedef struct lexical_db {
    sqlite3 *handle;
    fts5_api *api;
    fts5_tokenizer methods;
    Fts5Tokenizer *tokenizer; /* unicode61, as the tables use it */
    bool damaged;             /* an error said that the file is no good */
} lexical_db;

/* Opens path; with `create` makes the file if it is missing. cache_kib bounds its
 * page cache. A connection without `create` cannot write. */
sem_status lexical_db_open(lexical_db *db, const char *path, bool create, uint32_t cache_kib, sem_error *err);
void lexical_db_close(lexical_db *db); /* accepts a closed one */

/* The error of a SQLite call; sets db->damaged where the file is no good. A full
 * disk is SEM_RESOURCE_EXHAUSTED. */
sem_status lexical_db_fail(lexical_db *db, const char *what, int rc, sem_error *err);

/* Runs statements that return no rows; every # in them stands for number. */
sem_status lexical_db_run(lexical_db *db, const char *sql, uint32_t number, sem_error *err);
/* Prepares a statement, # as above; sqlite3_finalize it. */
sem_status lexical_db_prepare(lexical_db *db, const char *sql, uint32_t number, sqlite3_stmt **out, sem_error *err);
/* Steps; *row says whether there is one. Resets the statement when there is none. */
sem_status lexical_db_step(lexical_db *db, sqlite3_stmt *statement, bool *row, sem_error *err);

/* Calls each() for every token of a text as the tables' tokenizer cuts it, in
 * order; it returns false to stop. */
typedef bool lexical_each_token(void *context, const char *token, size_t length);
sem_status lexical_db_tokens(lexical_db *db, const char *text, size_t length, lexical_each_token *each, void *context,
                             sem_error *err);

/* The class of a text's length and the least length of a class: classes are a
 * sixteenth of the length apart at most. */
unsigned lexical_class_of(uint64_t tokens);
uint64_t lexical_class_least(unsigned class);

#endif
