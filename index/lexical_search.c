#include "index/lexical_search.h"

#include "base/checked.h"
#include "base/clock.h"
#include "base/files.h"
#include "base/utf8.h"
#include "index/lexical_db.h"
#include "index/lexical_found.h"
#include "index/lexical_terms.h"
#include "index/topk.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    CACHE_KIB = 8 << 10,   /* of a connection */
    ASK_EVERY = 4096,      /* postings between two questions whether to go on */
    ASK_EVERY_TEXTS = 64,  /* texts */
    FEW_POSTINGS = 5000,   /* a term of so many postings may always drive */
    DRIVERS = 256,         /* terms that drive, unless they lead to too few documents */
    DEPTH_LEAST = 512,     /* candidates that are scored at least, */
    DEPTH_FACTOR = 4,      /* and at least so many times k, */
    DEPTH_BYTES = 8 << 20, /* but no more than have about so many bytes of text */
    DEPTH_LONG = 2         /* or so many times k */
};
static const double K1 = 1.2, B = 0.75; /* as FTS5's bm25() has them */
static const double LEAST_WEIGHT = 1e-6;
/* A term in more of the documents than this is not worth its postings. */
static const double FREQUENT = 0.1;
/* What a posting and a byte of text cost, in nanoseconds; a document also costs a look-up. */
static const double POSTING_NS = 150, TEXT_BYTE_NS = 12, DOCUMENT_NS = 2000;

struct lexical_reader {
    lexical_db db;
    lexical_candidates *gathering; /* the search whose postings are gone through */
};

struct lexical_candidates {
    lexical_reader *reader;
    const lexical_query *query;
    lexical_terms *terms; /* of the query; those that no document holds are last */
    size_t used;          /* terms that some document holds */
    lexical_plan plan;
    double tokens;                              /* of a document, on average */
    float length_part[1 << LEXICAL_CLASS_BITS]; /* of BM25's denominator, by class of length */
    const lexical_term *driver;                 /* the term under way */
    lexical_found found;
    bool scans;           /* all allowed documents are candidates */
    bool cut;             /* what has frequent terms only is none, since there are k without */
    bool stopped, failed; /* go_on said so; memory was out */
    /* ranking */
    store_read *read;
    uint64_t text_number;
    uint64_t text_tokens;
    const lexical_term **in_text; /* [used], owned: terms of the text that is being scored, */
    size_t in_text_count;         /* so many */
};

/* --- readers */

static int gather_postings(const Fts5ExtensionApi *api, Fts5Context *row, void *context);

/* Called once for a query of one term: goes through its postings without SQL. */
static void on_match(const Fts5ExtensionApi *api, Fts5Context *row, sqlite3_context *result, int count,
                     sqlite3_value **values)
{
    lexical_reader *r = api->xUserData(row);
    (void)count, (void)values;
    int rc = api->xQueryPhrase(row, 0, r->gathering, gather_postings);
    if (rc == SQLITE_OK)
        sqlite3_result_int(result, 0);
    else
        sqlite3_result_error_code(result, rc);
}

sem_status lexical_reader_open(lexical_reader **out, const store *s, bool *bad, sem_error *err)
{
    char path[FILES_PATH_MAX];
    *bad = false;
    lexical_reader *r = calloc(1, sizeof *r);
    if (r == NULL)
        return sem_fail_memory(err, "a lexical search");
    sem_status status = files_join(path, err, "%s/%s", store_path(s), LEXICAL_FILE);
    if (status == SEM_OK) {
        status = lexical_db_open(&r->db, path, false, CACHE_KIB, err);
        *bad = status != SEM_OK && (r->db.damaged || access(path, F_OK) != 0);
    }
    if (status == SEM_OK) {
        int rc = r->db.api->xCreateFunction(r->db.api, "semd_gather", r, on_match, NULL);
        if (rc != SQLITE_OK)
            status = lexical_db_fail(&r->db, "add a function", rc, err);
    }
    if (status != SEM_OK) {
        lexical_reader_close(r);
        return status;
    }
    *out = r;
    return SEM_OK;
}

void lexical_reader_close(lexical_reader *r)
{
    if (r == NULL)
        return;
    lexical_db_close(&r->db);
    free(r);
}

bool lexical_reader_damaged(const lexical_reader *r)
{
    return r->db.damaged;
}

/* --- candidates */

void lexical_candidates_free(lexical_candidates *c)
{
    if (c == NULL)
        return;
    lexical_terms_free(c->terms);
    lexical_found_free(&c->found);
    free(c->in_text);
    free(c);
}

const lexical_plan *lexical_candidates_plan(const lexical_candidates *c)
{
    return &c->plan;
}

size_t lexical_candidates_words(const lexical_candidates *c)
{
    return lexical_terms_count(c->terms);
}

lexical_word lexical_candidates_word(lexical_candidates *c, size_t i)
{
    const lexical_term *t = lexical_terms_at(c->terms, i);
    return (lexical_word){.bytes = t->bytes,
                          .length = t->length,
                          .times = t->times,
                          .documents = t->documents,
                          .weight = t->documents > 0 ? t->weight / t->times : 0,
                          .drives = t->drives};
}

static bool goes_on(lexical_candidates *c)
{
    if (!c->stopped && c->query->go_on != NULL)
        c->stopped = !c->query->go_on(c->query->context);
    return !c->stopped;
}

static sem_status outcome(const lexical_candidates *c, sem_error *err)
{
    if (c->failed)
        return sem_fail_memory(err, "a lexical search");
    return c->stopped ? sem_fail(err, SEM_CANCELLED, "the search was given up") : SEM_OK;
}

static int compare_numbers(const void *a, const void *b)
{
    const uint32_t *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

static bool is_allowed(const lexical_query *q, uint32_t docno)
{
    if (q->listed != NULL)
        return q->listed_count > 0 &&
               bsearch(&docno, q->listed, q->listed_count, sizeof docno, compare_numbers) != NULL;
    return q->allowed == NULL || (docno < q->allowed_bits && (q->allowed[docno / 64] >> (docno % 64) & 1) != 0);
}

static bool is_filtered(const lexical_query *q)
{
    return q->allowed != NULL || q->listed != NULL;
}

/* --- the query's terms */

static bool add_word(void *context, const char *token, size_t length)
{
    lexical_candidates *c = context;
    lexical_term *t = lexical_terms_add(c->terms, token, length);
    c->failed = t == NULL;
    if (t != NULL)
        t->times++;
    return t != NULL;
}

/* Rarest first, those that no document holds last; by bytes among equals. */
static int by_rarity(const lexical_term *a, const lexical_term *b)
{
    uint64_t x = a->documents - 1, y = b->documents - 1;
    if (x != y)
        return x < y ? -1 : 1;
    int order = memcmp(a->bytes, b->bytes, a->length < b->length ? a->length : b->length);
    return order != 0 ? order : (a->length > b->length) - (a->length < b->length);
}

static sem_status count_documents(lexical_candidates *c, sqlite3_stmt *s, lexical_term *t, sem_error *err)
{
    bool row = false;
    lexical_db *db = &c->reader->db;
    int rc = sqlite3_bind_blob64(s, 1, t->bytes, t->length, SQLITE_STATIC);
    sem_status status = rc == SQLITE_OK ? lexical_db_step(db, s, &row, err)
                                        : lexical_db_fail(db, "bind a term", rc, err);
    if (row) {
        t->documents = (uint64_t)sqlite3_column_int64(s, 0);
        sqlite3_reset(s);
    }
    double all = (double)c->plan.documents, held = (double)t->documents;
    double weight = log((all - held + 0.5) / (held + 0.5));
    t->weight = (weight > 0 ? weight : LEAST_WEIGHT) * t->times;
    return status;
}

static sem_status read_terms(lexical_candidates *c, sem_error *err)
{
    const lexical_query *q = c->query;
    sqlite3_stmt *s;
    lexical_db *db = &c->reader->db;
    sem_status status = lexical_db_tokens(db, q->text, q->length, add_word, c, err);
    if (status == SEM_OK)
        status = outcome(c, err);
    if (status == SEM_OK)
        status = lexical_db_prepare(db, "SELECT documents FROM terms_# WHERE term = ?1", q->collection, &s, err);
    if (status != SEM_OK)
        return status;
    size_t count = lexical_terms_count(c->terms);
    for (size_t i = 0; i < count && status == SEM_OK; i++) {
        status = count_documents(c, s, lexical_terms_at(c->terms, i), err);
        if (status == SEM_OK && i % ASK_EVERY == ASK_EVERY - 1 && !goes_on(c))
            status = outcome(c, err);
    }
    sqlite3_finalize(s);
    lexical_terms_sort(c->terms, by_rarity);
    while (c->used < count && lexical_terms_at(c->terms, c->used)->documents > 0)
        c->used++;
    return status;
}

/* --- postings */

static int gather_postings(const Fts5ExtensionApi *api, Fts5Context *row, void *context)
{
    lexical_candidates *c = context;
    sqlite3_int64 id = api->xRowid(row);
    uint32_t docno = (uint32_t)(id >> LEXICAL_CLASS_BITS);
    if (++c->plan.postings % ASK_EVERY == 0 && !goes_on(c))
        return SQLITE_DONE;
    if (!is_allowed(c->query, docno))
        return SQLITE_OK;
    Fts5PhraseIter at;
    int column, offset, times = 0;
    for (api->xPhraseFirst(row, 0, &at, &column, &offset); column >= 0; api->xPhraseNext(row, &at, &column, &offset))
        times++;
    float f = (float)times, part = c->length_part[id & ((1 << LEXICAL_CLASS_BITS) - 1)];
    float score = (float)c->driver->weight * (f * (float)(K1 + 1) / (f + part));
    if (score > 0 && !lexical_found_add(&c->found, docno, score)) {
        c->failed = true;
        return SQLITE_DONE;
    }
    return SQLITE_OK;
}

/* The term as FTS5's query language writes it: in quotes nothing has a meaning. One that was
 * cut inside a character, which FTS5 would not read so, is what begins with its whole ones. */
static char *quote(const lexical_term *t)
{
    char *out = checked_realloc(NULL, t->length + 2, 2), *p = out;
    size_t length = t->length;
    if (out == NULL)
        return NULL;
    while (length > 0 && t->length == LEXICAL_TOKEN_MAX && !utf8_valid(t->bytes, length))
        length--;
    *p++ = '"';
    for (size_t i = 0; i < length; i++) {
        if (t->bytes[i] == '"')
            *p++ = '"';
        *p++ = t->bytes[i];
    }
    *p++ = '"';
    if (length < t->length)
        *p++ = '*';
    *p = '\0';
    return out;
}

static sem_status drive(lexical_candidates *c, sqlite3_stmt *s, lexical_term *t, sem_error *err)
{
    lexical_db *db = &c->reader->db;
    bool row;
    char *text = quote(t);
    if (text == NULL)
        return sem_fail_memory(err, "a lexical search");
    c->driver = t;
    c->reader->gathering = c;
    int rc = sqlite3_bind_text(s, 1, text, -1, SQLITE_STATIC);
    sem_status status = rc == SQLITE_OK ? lexical_db_step(db, s, &row, err)
                                        : lexical_db_fail(db, "bind a term", rc, err);
    sqlite3_reset(s);
    sqlite3_clear_bindings(s);
    free(text);
    t->drives = true;
    return status != SEM_OK ? status : outcome(c, err);
}

static size_t count_allowed(const lexical_query *q)
{
    size_t count = q->listed_count;
    for (size_t w = 0; w < (q->allowed_bits + 63) / 64; w++)
        count += (size_t)__builtin_popcountll(q->allowed[w]);
    return count;
}

/* Whether scoring every allowed document costs less than these postings. */
static bool scan_is_cheaper(const lexical_candidates *c, size_t allowed, double postings)
{
    return (double)allowed * (DOCUMENT_NS + c->query->text_bytes * TEXT_BYTE_NS) <= postings * POSTING_NS;
}

static double postings_from(lexical_candidates *c, size_t first, uint64_t limit)
{
    double sum = 0;
    for (size_t i = first; i < c->used && lexical_terms_at(c->terms, i)->documents <= limit; i++)
        sum += (double)lexical_terms_at(c->terms, i)->documents;
    return sum;
}

/* Rarest first. A frequent term drives only where the rarer ones have led to
 * fewer than k documents. */
static sem_status drive_terms(lexical_candidates *c, sqlite3_stmt *s, sem_error *err)
{
    uint64_t limit = (uint64_t)(FREQUENT * (double)c->plan.documents);
    size_t allowed = is_filtered(c->query) ? count_allowed(c->query) : SIZE_MAX;
    sem_status status = SEM_OK;
    if (limit < FEW_POSTINGS)
        limit = FEW_POSTINGS;
    for (size_t i = 0; i < c->used && status == SEM_OK; i++) {
        lexical_term *t = lexical_terms_at(c->terms, i);
        bool frequent = t->documents > limit || i >= DRIVERS;
        if (frequent && c->found.count >= allowed)
            break;
        c->cut = frequent && c->found.count >= c->query->k && !c->query->thorough;
        if (c->cut)
            break;
        if (allowed != SIZE_MAX && (i == 0 || frequent) &&
            scan_is_cheaper(c, allowed, frequent ? (double)t->documents : postings_from(c, i, limit))) {
            c->scans = true;
            c->plan.kind = "scan";
            c->plan.reason = "the filter leaves few documents";
            return SEM_OK;
        }
        if (frequent)
            c->plan.reason = "the rare terms are in fewer than k documents";
        status = drive(c, s, t, err);
    }
    return status;
}

static sem_status gather_candidates(lexical_candidates *c, sem_error *err)
{
    sqlite3_stmt *s;
    if (c->used == 0)
        return SEM_OK;
    for (unsigned i = 0; i < 1 << LEXICAL_CLASS_BITS; i++)
        c->length_part[i] = (float)(K1 * (1 - B + B * (double)lexical_class_least(i) / c->tokens));
    c->plan.kind = "postings";
    c->plan.reason = "rarest terms first";
    sem_status status = lexical_db_prepare(&c->reader->db,
                                           "SELECT semd_gather(fts_#) FROM fts_# WHERE fts_# MATCH ?1 LIMIT 1",
                                           c->query->collection, &s, err);
    if (status != SEM_OK)
        return status;
    status = drive_terms(c, s, err);
    sqlite3_finalize(s);
    c->plan.candidates = c->scans ? count_allowed(c->query) : c->found.count;
    return status;
}

/* *there: the collection has tables. */
static sem_status read_collection(lexical_candidates *c, bool *there, sem_error *err)
{
    sqlite3_stmt *s;
    lexical_db *db = &c->reader->db;
    sem_status status = lexical_db_prepare(db,
                                           "SELECT (SELECT value FROM meta WHERE key = 'seq'), documents, tokens, "
                                           "built IS NOT NULL FROM collections WHERE number = #",
                                           c->query->collection, &s, err);
    if (status == SEM_OK)
        status = lexical_db_step(db, s, there, err);
    if (status == SEM_OK && *there) {
        c->plan.seq = (uint64_t)sqlite3_column_int64(s, 0);
        c->plan.documents = (uint64_t)sqlite3_column_int64(s, 1);
        double tokens = (double)sqlite3_column_int64(s, 2);
        /* A length counts against the average; where there are only empty texts, no term is found. */
        c->tokens = tokens > 0 ? tokens / (double)c->plan.documents : 1;
        if (sqlite3_column_int(s, 3) != 0)
            status = sem_fail(err, SEM_UNAVAILABLE,
                              "the lexical index of this collection is being built (%llu documents so far); try again "
                              "later",
                              (unsigned long long)c->plan.documents);
    }
    sqlite3_finalize(s);
    return status;
}

static sem_status gather_in_snapshot(lexical_candidates *c, sem_error *err)
{
    bool there = false;
    uint64_t began = clock_monotonic_ns();
    sem_status status = read_collection(c, &there, err);
    if (status != SEM_OK || !there || c->plan.documents == 0)
        return status;
    status = read_terms(c, err);
    uint64_t known = clock_monotonic_ns();
    c->plan.terms_ns = known - began;
    if (status == SEM_OK)
        status = gather_candidates(c, err);
    c->plan.postings_ns = clock_monotonic_ns() - known;
    return status;
}

sem_status lexical_gather(lexical_reader *r, const lexical_query *query, lexical_candidates **out, sem_error *err)
{
    lexical_candidates *c = calloc(1, sizeof *c);
    if (c == NULL)
        return sem_fail_memory(err, "a lexical search");
    c->reader = r;
    c->query = query;
    c->plan.kind = "none";
    c->plan.reason = "no document holds any of the terms";
    sem_status status = lexical_terms_create(&c->terms, err);
    if (status == SEM_OK)
        status = lexical_db_run(&r->db, "BEGIN", 0, err);
    if (status == SEM_OK) {
        status = gather_in_snapshot(c, err);
        sqlite3_exec(r->db.handle, "ROLLBACK", NULL, NULL, NULL); /* nothing was written: it ends the snapshot */
    }
    if (status != SEM_OK) {
        lexical_candidates_free(c);
        return status;
    }
    *out = c;
    return SEM_OK;
}

/* --- ranking */

static bool count_word(void *context, const char *token, size_t length)
{
    lexical_candidates *c = context;
    lexical_term *t = lexical_terms_find(c->terms, token, length);
    c->text_tokens++;
    if (t == NULL)
        return true;
    if (t->text != c->text_number) {
        t->text = c->text_number;
        t->in_text = 0;
        if (t->documents > 0)
            c->in_text[c->in_text_count++] = t;
    }
    t->in_text++;
    return true;
}

sem_status lexical_score(lexical_candidates *c, const char *text, size_t length, double *score, sem_error *err)
{
    c->text_number++;
    c->text_tokens = c->in_text_count = 0;
    *score = 0;
    sem_status status = lexical_db_tokens(&c->reader->db, text, length, count_word, c, err);
    double part = K1 * (1 - B + B * (double)c->text_tokens / c->tokens);
    for (size_t i = 0; i < c->in_text_count; i++) {
        const lexical_term *t = c->in_text[i];
        *score += t->weight * (t->in_text * (K1 + 1) / (t->in_text + part));
    }
    return status;
}

static int compare_ids(void *context, uint32_t a, uint32_t b)
{
    lexical_candidates *c = context;
    const unsigned char *a_key, *b_key;
    size_t a_length, b_length;
    bool a_found, b_found;
    uint32_t n = c->query->collection;
    if (store_document_key(c->read, n, a, &a_key, &a_length, &a_found, NULL) != SEM_OK ||
        store_document_key(c->read, n, b, &b_key, &b_length, &b_found, NULL) != SEM_OK || !a_found || !b_found)
        return (a > b) - (a < b);
    return docid_key_compare(a_key, a_length, b_key, b_length);
}

/* What the terms whose postings nobody went through can add to a score. */
static double most_of_others(lexical_candidates *c)
{
    double most = 0;
    for (size_t i = 0; i < c->used; i++) {
        const lexical_term *t = lexical_terms_at(c->terms, i);
        if (!t->drives)
            most += t->weight * (K1 + 1);
    }
    return most;
}

static size_t depth_of(const lexical_query *q)
{
    size_t depth = q->k * DEPTH_FACTOR > DEPTH_LEAST ? q->k * DEPTH_FACTOR : DEPTH_LEAST;
    double affordable = DEPTH_BYTES / (q->text_bytes > 1 ? q->text_bytes : 1);
    size_t most = affordable > (double)(q->k * DEPTH_LONG) ? (size_t)affordable : q->k * DEPTH_LONG;
    return depth < most ? depth : most;
}

/* Scores one document from its text, if it is there and passes. */
static sem_status rank_one(lexical_candidates *c, uint32_t docno, const filter *passes, topk *best, sem_error *err)
{
    store_document doc;
    bool found;
    double score;
    sem_status status = store_document_by_number(c->read, c->query->collection, docno, &doc, &found, err);
    if (status != SEM_OK || !found || (passes != NULL && !filter_match(passes, doc.meta, doc.meta_length)))
        return status;
    status = lexical_score(c, doc.text, doc.text_length, &score, err);
    if (++c->plan.scored % ASK_EVERY_TEXTS == 0 && status == SEM_OK && !goes_on(c))
        return outcome(c, err);
    if (status == SEM_OK && score > 0)
        topk_push(best, docno, 0, (float)score);
    return status;
}

static sem_status rank_found(lexical_candidates *c, const filter *passes, topk *best, sem_error *err)
{
    /* A little more than the sum of what was rounded on the way. */
    const double slack = 1.0 + 1e-5, others = most_of_others(c);
    size_t depth = depth_of(c->query);
    found_document next;
    sem_status status = SEM_OK;
    lexical_found_order(&c->found);
    while (status == SEM_OK && lexical_found_next(&c->found, &next)) {
        bool full = best->count == best->k;
        if (full && (c->plan.scored >= depth || next.score * slack + others < topk_threshold(best)))
            break;
        status = rank_one(c, next.docno, passes, best, err);
    }
    return status;
}

static sem_status rank_allowed(lexical_candidates *c, const filter *passes, topk *best, sem_error *err)
{
    const lexical_query *q = c->query;
    sem_status status = SEM_OK;
    for (size_t i = 0; i < q->listed_count && status == SEM_OK; i++)
        status = rank_one(c, q->listed[i], passes, best, err);
    for (size_t w = 0; w < (q->allowed_bits + 63) / 64 && status == SEM_OK; w++)
        for (uint64_t bits = q->allowed[w]; bits != 0 && status == SEM_OK; bits &= bits - 1)
            status = rank_one(c, (uint32_t)(w * 64 + (size_t)__builtin_ctzll(bits)), passes, best, err);
    return status;
}

bool lexical_ran_short(const lexical_candidates *c, size_t count)
{
    return c->cut && count < c->query->k;
}

sem_status lexical_rank(lexical_candidates *c, store_read *r, const filter *passes, vector_hit *hits, size_t *count,
                        sem_error *err)
{
    uint64_t began = clock_monotonic_ns();
    topk best = topk_start(hits, c->query->k, compare_ids, c);
    *count = 0;
    c->read = r;
    sem_status status = SEM_OK;
    free(c->in_text);
    c->in_text = checked_realloc(NULL, c->used + 1, sizeof(const lexical_term *));
    if (c->in_text == NULL)
        return sem_fail_memory(err, "a lexical search");
    if (c->query->k > 0)
        status = c->scans ? rank_allowed(c, passes, &best, err) : rank_found(c, passes, &best, err);
    if (status != SEM_OK)
        return status;
    topk_finish(&best);
    *count = best.count;
    c->plan.rank_ns = clock_monotonic_ns() - began;
    return SEM_OK;
}
