#include "finetune/pair_mine.h"

#include "base/checked.h"
#include "base/hash.h"
#include "base/random.h"
#include "finetune/bulk_encode.h"
#include "finetune/mine.h"
#include "finetune/mine_set.h"
#include "finetune/team.h"
#include "finetune/text_pool.h"
#include "finetune/text_vectors.h"

#include <stdlib.h>
#include <string.h>

enum {
    QUERIES_AT_ONCE = 128, /* whose vectors are in memory, and between looks at *cancel */
    QUERIES_A_READ = 16    /* a long read keeps the store from using freed pages again */
};

static const double RECALL = 0.95; /* as in searches */

typedef struct candidate {
    uint32_t docno;
    bool has_score;
    float score; /* cosine with the query, by the current model */
} candidate;

/* A negative that was drawn: of which pair, and its text's number. */
typedef struct drawn_negative {
    uint32_t pair, text;
} drawn_negative;

typedef struct text_home {
    uint32_t collection, docno;
} text_home;

/* A query's right document: by the query's key or form. */
typedef struct right_one {
    uint64_t query, document;
} right_one;

typedef struct mining {
    const pair_mine_options *options;
    pair_mine_report *report;
    pair_set *set;
    size_t dim;
    uint32_t *order; /* [order_count] pairs without negatives, by collection and query */
    size_t order_count;
    size_t *queries; /* [query_count + 1] where each query's pairs begin in order */
    size_t query_count;
    right_one *right; /* [right_count] sorted */
    size_t right_count;
    float *vectors; /* [QUERIES_AT_ONCE, dim] of queries from `first` on */
    size_t first, end;
    /* while a query is under way */
    store_read *read;
    uint32_t collection; /* that is open; 0: none yet */
    double text_bytes;   /* of its documents, on average */
    vector_index *index;
    lexical_reader *words;
    vector_hit *hits;      /* [top] */
    candidate *candidates; /* [2 top] */
    size_t candidate_count;
    /* results */
    text_pool texts;
    text_home *homes; /* [texts] */
    size_t home_count, home_capacity;
    drawn_negative *drawn; /* [drawn_count] */
    size_t drawn_count, drawn_capacity;
} mining;

static void mining_free(mining *m)
{
    store_read_end(m->read);
    free(m->order);
    free(m->queries);
    free(m->right);
    free(m->vectors);
    free(m->hits);
    free(m->candidates);
    text_pool_free(&m->texts);
    free(m->homes);
    free(m->drawn);
}

static const train_pair *pair_at(const mining *m, size_t place)
{
    return &m->set->pairs[m->order[place]];
}

static data_text query_of(const train_pair *p)
{
    return (data_text){p->query, p->query_length};
}

/* --- before the first query */

static int compare_right(const void *a, const void *b)
{
    const right_one *x = a, *y = b;
    if (x->query != y->query)
        return x->query < y->query ? -1 : 1;
    return (x->document > y->document) - (x->document < y->document);
}

/* Of all pairs: what is right for a query is so wherever it was judged. */
static sem_status list_right(mining *m, sem_error *err)
{
    m->right = checked_realloc(NULL, m->set->count + 1, 2 * sizeof *m->right);
    if (m->right == NULL)
        return sem_fail_memory(err, "the right documents of queries");
    for (size_t i = 0; i < m->set->count; i++) {
        const train_pair *p = &m->set->pairs[i];
        m->right[m->right_count++] = (right_one){p->query_key, p->document_key};
        m->right[m->right_count++] = (right_one){mine_form(query_of(p)), p->document_key};
    }
    qsort(m->right, m->right_count, sizeof *m->right, compare_right);
    return SEM_OK;
}

static bool is_right(const mining *m, const train_pair *p, uint64_t document)
{
    const right_one by_key = {p->query_key, document}, by_form = {mine_form(query_of(p)), document};
    return bsearch(&by_key, m->right, m->right_count, sizeof by_key, compare_right) != NULL ||
           bsearch(&by_form, m->right, m->right_count, sizeof by_form, compare_right) != NULL;
}

/* A pair by what it is sorted by. */
typedef struct placed_pair {
    uint64_t query;
    uint32_t domain, pair;
} placed_pair;

static int compare_placed(const void *a, const void *b)
{
    const placed_pair *x = a, *y = b;
    if (x->domain != y->domain)
        return x->domain < y->domain ? -1 : 1;
    if (x->query != y->query)
        return x->query < y->query ? -1 : 1;
    return (x->pair > y->pair) - (x->pair < y->pair);
}

static sem_status list_queries(mining *m, sem_error *err)
{
    const pair_set *set = m->set;
    placed_pair *list = checked_realloc(NULL, set->count + 1, sizeof *list);
    m->order = checked_realloc(NULL, set->count + 1, sizeof *m->order);
    m->queries = checked_realloc(NULL, set->count + 1, sizeof *m->queries);
    if (list == NULL || m->order == NULL || m->queries == NULL) {
        free(list);
        return sem_fail_memory(err, "the pairs to mine");
    }
    for (size_t i = 0; i < set->count; i++)
        if (set->pairs[i].negative_count == 0)
            list[m->order_count++] = (placed_pair){set->pairs[i].query_key, set->pairs[i].domain, (uint32_t)i};
    qsort(list, m->order_count, sizeof *list, compare_placed);
    for (size_t i = 0; i < m->order_count; i++) {
        m->order[i] = list[i].pair;
        if (i == 0 || list[i].domain != list[i - 1].domain || list[i].query != list[i - 1].query)
            m->queries[m->query_count++] = i;
    }
    m->queries[m->query_count] = m->order_count;
    m->report->pairs = m->order_count;
    free(list);
    return SEM_OK;
}

static sem_status prepare(mining *m, sem_error *err)
{
    const size_t top = m->options->top;
    sem_status status = list_right(m, err);
    if (status == SEM_OK)
        status = list_queries(m, err);
    m->vectors = checked_alloc_floats(QUERIES_AT_ONCE, m->dim);
    m->hits = checked_realloc(NULL, top, sizeof *m->hits);
    m->candidates = checked_realloc(NULL, top, 2 * sizeof *m->candidates);
    if (status == SEM_OK && (m->vectors == NULL || m->hits == NULL || m->candidates == NULL))
        status = sem_fail_memory(err, "mining");
    return status;
}

static sem_status encode_queries(mining *m, sem_error *err)
{
    const pair_mine_options *o = m->options;
    bulk_text texts[QUERIES_AT_ONCE];
    const size_t left = m->query_count - m->first;
    m->end = m->first + (left < QUERIES_AT_ONCE ? left : QUERIES_AT_ONCE);
    for (size_t q = m->first; q < m->end; q++) {
        const train_pair *p = pair_at(m, m->queries[q]);
        texts[q - m->first] = (bulk_text){p->query, p->query_length};
    }
    const bulk_job work = {.model = o->queries,
                           .prompt = model_config_query_prompt(model_get_config(o->queries)),
                           .texts = texts,
                           .count = m->end - m->first,
                           .threads = o->threads,
                           .nice = o->nice,
                           .cancel = o->cancel,
                           .out = m->vectors};
    return bulk_encode(&work, err);
}

/* --- candidates of one query */

static candidate *candidate_for(mining *m, uint32_t docno)
{
    for (size_t i = 0; i < m->candidate_count; i++)
        if (m->candidates[i].docno == docno)
            return &m->candidates[i];
    m->candidates[m->candidate_count] = (candidate){.docno = docno};
    return &m->candidates[m->candidate_count++];
}

static sem_status find_by_model(mining *m, const float *vector, sem_error *err)
{
    const vector_query query = {.vector = vector, .k = m->options->top, .recall = RECALL, .read = m->read};
    size_t count = 0;
    if (m->index == NULL)
        return SEM_OK;
    sem_status status = vector_index_search(m->index, &query, m->hits, &count, NULL, err);
    for (size_t i = 0; i < count && status == SEM_OK; i++) {
        candidate *c = candidate_for(m, m->hits[i].docno);
        c->score = m->hits[i].score;
        c->has_score = true;
    }
    return status;
}

static sem_status find_by_words(mining *m, const train_pair *p, sem_error *err)
{
    lexical_candidates *found = NULL;
    size_t count = 0;
    const lexical_query query = {.collection = p->domain,
                                 .text = p->query,
                                 .length = p->query_length,
                                 .k = m->options->top,
                                 .text_bytes = m->text_bytes};
    if (m->words == NULL)
        return SEM_OK;
    sem_status status = lexical_gather(m->words, &query, &found, err);
    if (status == SEM_OK)
        status = lexical_rank(found, m->read, NULL, m->hits, &count, err);
    lexical_candidates_free(found);
    if (status != SEM_OK) { /* it is being built, or damaged, or gone: the vectors are there */
        m->report->without_words++;
        m->words = NULL;
        return SEM_OK;
    }
    for (size_t i = 0; i < count && status == SEM_OK; i++)
        (void)candidate_for(m, m->hits[i].docno);
    return status;
}

/* The cosine that a search would have found, for what only words led to. */
static sem_status score_rest(mining *m, uint32_t collection, const float *vector, float *room, sem_error *err)
{
    sem_status status = SEM_OK;
    for (size_t i = 0; i < m->candidate_count && status == SEM_OK; i++) {
        candidate *c = &m->candidates[i];
        uint64_t version;
        bool found = false;
        if (!c->has_score)
            status =
                store_vector_get(m->read, m->options->space, collection, c->docno, room, m->dim, &version, &found, err);
        if (status == SEM_OK && found) {
            c->score = (float)text_vectors_cosine(vector, room, m->dim);
            c->has_score = true;
        }
    }
    return status;
}

/* --- what is drawn for a pair */

static bool passes(mining *m, const train_pair *p, const candidate *c, const store_document *doc, double limit)
{
    const data_text text = {doc->text, doc->text_length}, own = {p->document, p->document_length};
    pair_mine_report *r = m->report;
    r->candidates++;
    if (is_right(m, p, hash_text(doc->text, doc->text_length))) {
        r->known++;
        return false;
    }
    const uint64_t form = mine_form(text);
    if (form == mine_form(own) || form == mine_form(query_of(p))) {
        r->same_text++;
        return false;
    }
    if (!c->has_score || (double)c->score > limit) {
        r->by_score++;
        return false;
    }
    return true;
}

static bool keep_negative(mining *m, uint32_t pair, uint32_t collection, const store_document *doc)
{
    drawn_negative now = {.pair = pair};
    drawn_negative *list = items_with_room(m->drawn, m->drawn_count, &m->drawn_capacity, sizeof *list);
    text_home *homes = items_with_room(m->homes, m->home_count, &m->home_capacity, sizeof *homes);
    if (list != NULL)
        m->drawn = list;
    if (homes != NULL)
        m->homes = homes;
    if (list == NULL || homes == NULL || !text_pool_keep(&m->texts, doc->text, doc->text_length, &now.text))
        return false;
    if (now.text == m->home_count)
        homes[m->home_count++] = (text_home){collection, doc->docno};
    list[m->drawn_count++] = now;
    return true;
}

/* The score of the pair's own document: as the index has it, which knows its best passage, else by its vector. */
static double own_score(const mining *m, const train_pair *p, const float *vector, uint32_t docno)
{
    double score = text_vectors_cosine(vector, p->document_vector, m->dim);
    for (size_t i = 0; i < m->candidate_count; i++)
        if (m->candidates[i].docno == docno && m->candidates[i].has_score && (double)m->candidates[i].score > score)
            score = (double)m->candidates[i].score;
    return score;
}

/* Goes over the candidates in random order until there are enough. */
static sem_status draw(mining *m, uint32_t pair, const float *vector, sem_error *err)
{
    const train_pair *p = &m->set->pairs[pair];
    const pair_document *own = &m->set->documents[m->set->pair_documents[pair]];
    const double limit = mine_guide_limit(own_score(m, p, vector, own->docno), m->options->ratio);
    random_state r;
    size_t kept = 0;
    random_seed(&r, random_at(random_at(m->options->seed, p->query_key), p->document_key));
    random_shuffle(&r, m->candidates, m->candidate_count, sizeof *m->candidates);
    for (size_t i = 0; i < m->candidate_count && kept < m->options->negatives; i++) {
        store_document doc;
        bool found;
        sem_status status = store_document_by_number(m->read, p->domain, m->candidates[i].docno, &doc, &found, err);
        if (status != SEM_OK)
            return status;
        if (!found || doc.text_length == 0 || !passes(m, p, &m->candidates[i], &doc, limit))
            continue;
        if (!keep_negative(m, pair, p->domain, &doc))
            return sem_fail_memory(err, "mined negatives");
        kept++;
    }
    m->report->drawn += kept;
    m->report->without += kept == 0;
    return SEM_OK;
}

static int compare_candidates(const void *a, const void *b)
{
    const candidate *x = a, *y = b;
    return (x->docno > y->docno) - (x->docno < y->docno);
}

static sem_status mine_query(mining *m, size_t query, float *room, sem_error *err)
{
    const train_pair *p = pair_at(m, m->queries[query]);
    const float *vector = m->vectors + (query - m->first) * m->dim;
    m->candidate_count = 0;
    sem_status status = find_by_model(m, vector, err);
    if (status == SEM_OK)
        status = find_by_words(m, p, err);
    if (status == SEM_OK)
        status = score_rest(m, p->domain, vector, room, err);
    m->report->unsearched += m->index == NULL && m->words == NULL;
    for (size_t i = m->queries[query]; i < m->queries[query + 1] && status == SEM_OK; i++) {
        /* So that what is drawn follows from who the candidates are alone. */
        qsort(m->candidates, m->candidate_count, sizeof *m->candidates, compare_candidates);
        status = draw(m, m->order[i], vector, err);
    }
    return status;
}

/* --- the helper's part: all queries whose vectors are there */

static sem_status open_collection(mining *m, uint32_t number, sem_error *err)
{
    store_collection c;
    if (m->collection == number)
        return SEM_OK;
    m->collection = number;
    m->index = NULL;
    m->words = NULL;
    sem_status status = store_collection_at(m->read, number, &c, err);
    if (status == SEM_NOT_FOUND) /* dropped meanwhile */
        return SEM_OK;
    if (status != SEM_OK)
        return status;
    m->text_bytes = c.documents > 0 ? (double)c.bytes / (double)c.documents : 0;
    status = m->options->open(m->options->context, number, &m->index, &m->words, err);
    if (!c.lexical)
        m->words = NULL;
    return status;
}

static sem_status mine_some(void *context, unsigned helper, sem_error *err)
{
    mining *m = context;
    (void)helper;
    float *room = checked_alloc_floats(1, m->dim);
    sem_status status = room != NULL ? SEM_OK : sem_fail_memory(err, "mining");
    for (size_t q = m->first; q < m->end && status == SEM_OK; q++) {
        if ((q - m->first) % QUERIES_A_READ == 0)
            status = m->read == NULL ? store_read_begin(m->options->store, &m->read, err)
                                     : store_read_renew(m->read, err);
        if (status == SEM_OK)
            status = open_collection(m, pair_at(m, m->queries[q])->domain, err);
        if (status == SEM_OK)
            status = mine_query(m, q, room, err);
    }
    if (m->read != NULL)
        store_read_rest(m->read);
    free(room);
    return status;
}

static sem_status mine_all(mining *m, team *helper, sem_error *err)
{
    const pair_mine_options *o = m->options;
    sem_status status = SEM_OK;
    for (m->first = 0; m->first < m->query_count && status == SEM_OK; m->first = m->end) {
        if (o->cancel != NULL && atomic_load(o->cancel))
            return sem_fail(err, SEM_CANCELLED, "mining was cancelled");
        status = encode_queries(m, err);
        if (status == SEM_OK)
            status = team_run(helper, mine_some, m, err);
        if (status == SEM_OK && o->progress != NULL)
            o->progress(o->context, m->end, m->query_count);
    }
    return status;
}

/* --- into the set */

static int compare_drawn(const void *a, const void *b)
{
    const drawn_negative *x = a, *y = b;
    if (x->pair != y->pair)
        return x->pair < y->pair ? -1 : 1;
    return (x->text > y->text) - (x->text < y->text);
}

/* Puts the mined texts behind the set's documents; false when memory is out. */
static bool add_documents(mining *m)
{
    pair_set *set = m->set;
    pair_document *documents =
        checked_realloc(set->documents, set->document_count + m->texts.count + 1, sizeof *documents);
    if (documents != NULL)
        set->documents = documents;
    if (documents == NULL || !buffer_reserve(&m->texts.strings, 1))
        return false;
    set->mined_texts = m->texts.strings.data;
    m->texts.strings = (buffer){0};
    for (size_t i = 0; i < m->texts.count; i++)
        documents[set->document_count + i] = (pair_document){m->homes[i].collection, m->homes[i].docno,
                                                             (const char *)set->mined_texts + m->texts.texts[i].offset,
                                                             m->texts.texts[i].length};
    return true;
}

/* New lists of negatives, pair by pair: the old ones and those drawn for pairs without. */
static sem_status add_to_set(mining *m, sem_error *err)
{
    pair_set *set = m->set;
    const size_t count = set->negative_count + m->drawn_count, first = set->document_count;
    train_negative *negatives = checked_realloc(NULL, count + 1, sizeof *negatives);
    uint32_t *documents = checked_realloc(NULL, count + 1, sizeof *documents);
    if (negatives == NULL || documents == NULL || !add_documents(m)) {
        free(negatives);
        free(documents);
        return sem_fail_memory(err, "mined negatives");
    }
    if (m->drawn_count > 0)
        qsort(m->drawn, m->drawn_count, sizeof *m->drawn, compare_drawn);
    for (size_t i = 0, at = 0, next = 0; i < set->count; i++) {
        train_pair *p = &set->pairs[i];
        const size_t begin = at, old = p->negative_count > 0 ? (size_t)(p->negatives - set->negatives) : 0;
        for (size_t k = 0; k < p->negative_count; k++, at++) {
            negatives[at] = set->negatives[old + k];
            negatives[at].vector = NULL; /* as the new ones' */
            documents[at] = set->negative_documents[old + k];
        }
        for (; next < m->drawn_count && m->drawn[next].pair == i; next++, at++) {
            const pair_document *d = &set->documents[first + m->drawn[next].text];
            negatives[at] =
                (train_negative){.text = d->text, .length = d->length, .key = m->texts.texts[m->drawn[next].text].hash};
            documents[at] = (uint32_t)(first + m->drawn[next].text);
        }
        p->negatives = negatives + begin;
        p->negative_count = at - begin;
    }
    free(set->negatives);
    free(set->negative_documents);
    set->negatives = negatives;
    set->negative_documents = documents;
    set->negative_count = count;
    set->document_count += m->texts.count;
    return SEM_OK;
}

sem_status pair_mine(pair_set *set, const pair_mine_options *options, pair_mine_report *report, sem_error *err)
{
    mining m = {.options = options, .report = report, .set = set, .dim = model_get_config(options->queries)->dim};
    team *helper = NULL;
    *report = (pair_mine_report){0};
    if (options->negatives == 0 || options->top == 0)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "mining %zu negatives of the best %zu: at least 1 of each",
                        options->negatives, options->top);
    if (set->mined_texts != NULL)
        return sem_fail(err, SEM_FAILED_PRECONDITION, "negatives were mined for these pairs before");
    sem_status status = prepare(&m, err);
    if (status == SEM_OK)
        status = team_create(&helper, 1, options->nice, err);
    if (status == SEM_OK)
        status = mine_all(&m, helper, err);
    if (status == SEM_OK)
        status = add_to_set(&m, err);
    team_destroy(helper);
    mining_free(&m);
    return status;
}
