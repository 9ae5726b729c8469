#include "finetune/pairs.h"

#include "base/checked.h"
#include "base/hash.h"
#include "base/random.h"
#include "finetune/harvest.h"
#include "finetune/holdout.h"
#include "finetune/shown.h"
#include "finetune/text_pool.h"

#include <math.h>
#include <string.h>

/* A document that was judged for a query of a collection. */
typedef struct judged {
    uint32_t collection;
    uint32_t docno; /* if by_id */
    bool by_id;
    uint32_t query; /* number of a text */
    uint32_t document;
    uint32_t void_below; /* votes with lower serials were taken back */
    uint64_t first;      /* number of the first judgement */
} judged;

/* Where a text was read. */
typedef struct text_place {
    uint32_t collection, docno;
} text_place;

typedef struct collector {
    store_read *read;
    const pair_options *options;
    text_pool texts;
    text_place *places; /* [place_count] of the first texts; docno PAIR_NO_DOCUMENT: in no document */
    size_t place_count, place_capacity;
    judged *judged;
    size_t judged_count, judged_capacity;
    item_table judged_table;
    ballot *ballots; /* of whom counts, the latest */
    size_t ballot_count, ballot_capacity;
    item_table ballot_table;
    skip *skips; /* of the documents above clicked ones */
    size_t skip_count, skip_capacity;
    shown_list shown;    /* beside clicked ones of held-out queries */
    uint64_t last;       /* number of the last judgement */
    uint32_t serial;     /* of the next vote */
    uint32_t collection; /* the last one asked about; 0: none yet */
    bool learns;         /* its vectors are the model's */
    size_t gone;         /* judgements whose document or collection is gone, or whose collection is external */
    trust_pair *weights; /* [judged_count] */
    sem_status status;   /* of a judgement, which ends the walk */
    sem_error *err;
} collector;

static void collector_free(collector *c)
{
    text_pool_free(&c->texts);
    free(c->places);
    free(c->judged);
    item_table_free(&c->judged_table);
    free(c->ballots);
    item_table_free(&c->ballot_table);
    free(c->skips);
    shown_free(&c->shown);
    free(c->weights);
}

/* --- judgements */

static uint64_t hash_of_judged(const judged *j)
{
    uint32_t identity[3] = {j->collection, j->query, j->document};
    return hash_text(identity, sizeof identity);
}

static uint64_t judged_hash(const void *context, size_t item)
{
    const collector *c = context;
    return hash_of_judged(&c->judged[item]);
}

/* *pair = the number of this query and document; where they have one, it is brought up to date. */
static bool find_pair(collector *c, const judged *now, uint32_t *pair)
{
    judged *list = items_with_room(c->judged, c->judged_count, &c->judged_capacity, sizeof *list);
    if (list == NULL)
        return false;
    c->judged = list;
    if (!item_table_reserve(&c->judged_table, c, c->judged_count, judged_hash))
        return false;
    const uint64_t hash = hash_of_judged(now);
    for (size_t cell = (size_t)hash; item_table_next(&c->judged_table, &cell, pair);) {
        judged *old = &list[*pair];
        if (old->collection != now->collection || old->query != now->query || old->document != now->document)
            continue;
        old->by_id = now->by_id;
        old->docno = now->docno;
        return true;
    }
    list[c->judged_count] = *now;
    item_table_put(&c->judged_table, hash, c->judged_count);
    *pair = (uint32_t)c->judged_count++;
    return true;
}

static uint64_t ballot_hash(const void *context, size_t item)
{
    const collector *c = context;
    return random_at(c->ballots[item].user, c->ballots[item].pair);
}

/* A user's latest vote for a pair counts; it stays at the place of the first. */
static bool cast(collector *c, const ballot *b)
{
    uint32_t item;
    ballot *list = items_with_room(c->ballots, c->ballot_count, &c->ballot_capacity, sizeof *list);
    if (list == NULL)
        return false;
    c->ballots = list;
    if (!item_table_reserve(&c->ballot_table, c, c->ballot_count, ballot_hash))
        return false;
    const uint64_t hash = random_at(b->user, b->pair);
    for (size_t cell = (size_t)hash; item_table_next(&c->ballot_table, &cell, &item);) {
        if (list[item].user == b->user && list[item].pair == b->pair) {
            list[item] = *b;
            return true;
        }
    }
    list[c->ballot_count] = *b;
    item_table_put(&c->ballot_table, hash, c->ballot_count++);
    return true;
}

/* *text = the number of the document's text, which stands in the store under docno, or nowhere. */
static bool keep_document(collector *c, const char *bytes, size_t length, text_place place, uint32_t *text)
{
    if (!text_pool_keep(&c->texts, bytes, length, text))
        return false;
    while (c->place_count <= *text) {
        text_place *list = items_with_room(c->places, c->place_count, &c->place_capacity, sizeof *list);
        if (list == NULL)
            return false;
        c->places = list;
        list[c->place_count++] = (text_place){.docno = PAIR_NO_DOCUMENT};
    }
    if (place.docno != PAIR_NO_DOCUMENT)
        c->places[*text] = place;
    return true;
}

/* Reads the text that a judgement by id names. */
static sem_status find_text(collector *c, const event_judgement *j, judged *now, const char **text, size_t *length,
                            bool *found)
{
    store_document doc;
    sem_status status = store_document_get(c->read, j->collection, &j->id, &doc, found, c->err);
    if (status != SEM_OK || !*found)
        return status;
    *text = doc.text;
    *length = doc.text_length;
    now->docno = doc.docno;
    return SEM_OK;
}

/* Whether judgements of the collection are learnt from: its vectors come from the model. */
static sem_status look_up_collection(collector *c, uint32_t number)
{
    store_collection found;
    if (c->collection == number)
        return SEM_OK;
    sem_status status = store_collection_at(c->read, number, &found, c->err);
    if (status != SEM_OK && status != SEM_NOT_FOUND)
        return status;
    c->collection = number;
    c->learns = status == SEM_OK && !found.external;
    return SEM_OK;
}

bool pair_is_held_out(const unsigned char key[16], double share, const char *query, size_t length)
{
    return holdout_takes(holdout_key(key, query, length), share);
}

static bool is_held_out(const pair_options *options, const char *query, size_t length)
{
    return pair_is_held_out(options->key, options->heldout_share, query, length);
}

static sem_status note_skip(collector *c, const event_judgement *j, const docid *id, uint32_t pair)
{
    store_document doc;
    bool found;
    skip passed = {.pair = pair};
    sem_status status = store_document_get(c->read, j->collection, id, &doc, &found, c->err);
    if (status != SEM_OK || !found || doc.text_length == 0)
        return status;
    skip *list = items_with_room(c->skips, c->skip_count, &c->skip_capacity, sizeof *list);
    if (list != NULL)
        c->skips = list;
    const text_place place = {j->collection, doc.docno};
    if (list == NULL || !keep_document(c, doc.text, doc.text_length, place, &passed.document))
        return sem_fail_memory(c->err, "skipped documents");
    list[c->skip_count++] = passed;
    return SEM_OK;
}

/* The documents nearest above a click, of a query that is trained on. */
static sem_status note_skips(collector *c, const event_judgement *j, uint32_t pair)
{
    event_above above = j->above;
    docid id;
    sem_status status = SEM_OK;
    if (c->options->negatives == 0 || !(j->weight > 0))
        return SEM_OK;
    while (status == SEM_OK && event_above_next(&above, &id))
        if (above.left < SKIPPED_ABOVE)
            status = note_skip(c, j, &id, pair);
    return status;
}

/* What the vote is worth before anybody asks whose it is. The gate needs no agreement: among what was
 * shown clicks by mistake cancel out (docs/learning.md), and what they take from a right document's votes
 * at low ranks would be missing there. */
static float vote_weight(const pair_options *o, const event_judgement *j)
{
    double weight = fmin(j->weight, 1); /* one click is one vote however much it claims to weigh */
    if (o->bias != NULL && j->rank > 0)
        weight *= propensity_weight(o->bias, j->rank, o->most_weight);
    if (o->agreed != NULL && j->rank > 0 && !is_held_out(o, j->query, j->query_length))
        weight *= agreement_of(o->agreed, harvest_query(j->collection, j->query, j->query_length),
                               harvest_document(&j->id), j->rank);
    return (float)weight;
}

static sem_status count_vote(collector *c, const event_judgement *j, const judged *now)
{
    uint32_t pair;
    bool counted = find_pair(c, now, &pair);
    if (counted && j->weight < 0) {
        c->judged[pair].void_below = c->serial;
    } else if (counted) {
        const ballot b = {.user = j->user_hash,
                          .search = j->search,
                          .time_ms = j->time_ms,
                          .shown = (uint32_t)j->shown_count,
                          .pair = pair,
                          .serial = c->serial++,
                          .weight = vote_weight(c->options, j)};
        counted = cast(c, &b);
    }
    if (!counted)
        return sem_fail_memory(c->err, "the training pairs");
    if (j->weight > 0 && is_held_out(c->options, j->query, j->query_length))
        return shown_note(&c->shown, c->read, j, pair, c->err);
    return note_skips(c, j, pair);
}

static sem_status learn(collector *c, const event_judgement *j)
{
    judged now = {.collection = j->collection, .by_id = j->by_id, .first = j->seq};
    const char *text = j->text;
    size_t length = j->text_length;
    bool found = true;
    sem_status status = look_up_collection(c, j->collection);
    if (status == SEM_OK && c->learns && j->by_id)
        status = find_text(c, j, &now, &text, &length, &found);
    if (status != SEM_OK)
        return status;
    if (!c->learns || !found) {
        c->gone++;
        return SEM_OK;
    }
    const text_place place = {j->collection, now.by_id ? now.docno : PAIR_NO_DOCUMENT};
    if (!text_pool_keep(&c->texts, j->query, j->query_length, &now.query) ||
        !keep_document(c, text, length, place, &now.document))
        return sem_fail_memory(c->err, "the training pairs");
    return count_vote(c, j, &now);
}

static bool take_judgement(void *context, const event_judgement *j)
{
    collector *c = context;
    if (c->options->upto != 0 && j->seq > c->options->upto)
        return false;
    c->last = j->seq;
    if (c->options->collection != 0 && j->collection != c->options->collection)
        return true;
    if (c->serial == UINT32_MAX) {
        c->status = sem_fail(c->err, SEM_RESOURCE_EXHAUSTED, "the log holds more than %u votes", UINT32_MAX);
        return false;
    }
    c->status = learn(c, j);
    return c->status == SEM_OK;
}

/* --- the weights */

static sem_status weigh(collector *c, sem_error *err)
{
    size_t valid = 0;
    c->weights = checked_realloc(NULL, c->judged_count + 1, sizeof *c->weights);
    if (c->weights == NULL)
        return sem_fail_memory(err, "the training pairs");
    for (size_t i = 0; i < c->judged_count; i++)
        c->weights[i] = (trust_pair){c->judged[i].query, c->judged[i].document, 0};
    for (size_t i = 0; i < c->ballot_count; i++)
        if (c->ballots[i].weight > 0 && c->ballots[i].serial >= c->judged[c->ballots[i].pair].void_below)
            c->ballots[valid++] = c->ballots[i];
    c->ballot_count = valid;
    sem_status status = trust_ballots(c->ballots, valid, &c->options->trust, err);
    for (size_t i = 0; i < valid; i++)
        c->weights[c->ballots[i].pair].weight += c->ballots[i].weight;
    return status == SEM_OK ? trust_pairs(c->weights, c->judged_count, c->texts.count, &c->options->trust, err)
                            : status;
}

/* --- the set */

static void add_pair(pair_set *out, const collector *c, size_t number)
{
    const pooled_text *query = &c->texts.texts[c->judged[number].query];
    const pooled_text *document = &c->texts.texts[c->judged[number].document];
    const char *strings = out->texts;
    out->pairs[out->count++] = (train_pair){
        .query = strings + query->offset,
        .query_length = query->length,
        .document = strings + document->offset,
        .document_length = document->length,
        .document_key = document->hash,
        .query_key = query->hash,
        .weight = c->weights[number].weight,
        .domain = c->judged[number].collection,
        .origin = c->judged[number].first <= c->options->trained ? TRAIN_REPLAYED : TRAIN_NEW,
    };
}

static heldout_query heldout_of(const pair_set *out, const collector *c, size_t number, uint64_t key)
{
    const judged *j = &c->judged[number];
    const pooled_text *query = &c->texts.texts[j->query], *document = &c->texts.texts[j->document];
    const char *strings = out->texts;
    return (heldout_query){
        .key = key,
        .query = strings + query->offset,
        .query_length = query->length,
        .collection = j->collection,
        .by_id = j->by_id,
        .docno = j->docno,
        .document = strings + document->offset,
        .document_length = document->length,
        .weight = c->weights[number].weight,
    };
}

/* Keeps a held-out query for measuring; what was shown for it begins at *at or later. */
static void add_heldout(pair_set *out, const collector *c, size_t number, uint64_t key, size_t *at)
{
    heldout_query *h = &out->heldout[out->heldout_count++];
    *h = heldout_of(out, c, number, key);
    h->shown_count = shown_of(&c->shown, (uint32_t)number, at);
    h->shown = out->shown + *at;
}

/* The number among out's documents of a text, which is put there if it is not; numbers[] of texts: 0 is none yet. */
static uint32_t document_of(pair_set *out, const collector *c, uint32_t text, uint32_t *numbers)
{
    const pooled_text *t = &c->texts.texts[text];
    if (numbers[text] == 0) {
        out->documents[out->document_count++] = (pair_document){.collection = c->places[text].collection,
                                                                .docno = c->places[text].docno,
                                                                .text = (const char *)out->texts + t->offset,
                                                                .length = t->length};
        numbers[text] = (uint32_t)out->document_count;
    }
    return numbers[text] - 1;
}

/* The negatives of pair `number` begin at *at in the skips chosen; moves *at to the next pair's. */
static void add_negatives(pair_set *out, const collector *c, size_t number, size_t *at, uint32_t *numbers)
{
    train_pair *p = &out->pairs[out->count - 1];
    const char *strings = out->texts;
    p->negatives = out->negatives + out->negative_count;
    while (*at < c->skip_count && c->skips[*at].pair < number)
        (*at)++;
    for (; *at < c->skip_count && c->skips[*at].pair == number; (*at)++, p->negative_count++) {
        const pooled_text *text = &c->texts.texts[c->skips[*at].document];
        out->negative_documents[out->negative_count] = document_of(out, c, c->skips[*at].document, numbers);
        out->negatives[out->negative_count++] =
            (train_negative){.text = strings + text->offset, .length = text->length, .key = text->hash};
    }
}

static bool take_memory(pair_set *out, collector *c)
{
    out->pairs = checked_realloc(NULL, c->judged_count + 1, sizeof *out->pairs);
    out->heldout = checked_realloc(NULL, c->judged_count + 1, sizeof *out->heldout);
    out->newest = checked_realloc(NULL, c->judged_count + 1, sizeof *out->newest);
    out->negatives = checked_realloc(NULL, c->skip_count + 1, sizeof *out->negatives);
    out->pair_documents = checked_realloc(NULL, c->judged_count + 1, sizeof *out->pair_documents);
    out->negative_documents = checked_realloc(NULL, c->skip_count + 1, sizeof *out->negative_documents);
    out->documents = checked_realloc(NULL, c->place_count + 1, sizeof *out->documents);
    out->shown = checked_realloc(NULL, c->shown.count + 1, sizeof *out->shown);
    return out->pairs != NULL && out->heldout != NULL && out->shown != NULL && out->newest != NULL &&
           out->negatives != NULL && out->pair_documents != NULL && out->negative_documents != NULL &&
           out->documents != NULL && buffer_reserve(&c->texts.strings, 1);
}

/* Queries of the judgements, in the order of the log. */
typedef struct asking {
    uint64_t *keys;  /* [judged_count] names of queries, all of them */
    uint64_t *train; /* [train_count] of those that are trained on but for `newest` */
    bool *newest;    /* [train_count] */
    size_t train_count;
    size_t new_from; /* of these the first that no model was trained on yet */
} asking;

static void asking_free(asking *a)
{
    free(a->keys);
    free(a->train);
    free(a->newest);
}

static sem_status name_queries(const collector *c, const pair_set *out, asking *a, sem_error *err)
{
    const pair_options *o = c->options;
    a->keys = checked_realloc(NULL, c->judged_count + 1, sizeof *a->keys);
    a->train = checked_realloc(NULL, c->judged_count + 1, sizeof *a->train);
    a->newest = checked_realloc(NULL, c->judged_count + 1, sizeof *a->newest);
    if (a->keys == NULL || a->train == NULL || a->newest == NULL)
        return sem_fail_memory(err, "the names of queries");
    for (size_t i = 0; i < c->judged_count; i++) {
        const pooled_text *query = &c->texts.texts[c->judged[i].query];
        a->keys[i] = holdout_key(o->key, (const char *)out->texts + query->offset, query->length);
        if (!(c->weights[i].weight > 0) || holdout_takes(a->keys[i], o->heldout_share))
            continue;
        a->train[a->train_count++] = a->keys[i];
        a->new_from += c->judged[i].first <= o->trained;
    }
    return holdout_newest(a->train, a->train_count, a->new_from, o->newest_share, a->newest, err);
}

/* Keeps a newest query for measuring. It is to be new in the next round as well. */
static void add_newest(pair_set *out, const collector *c, size_t number, uint64_t key)
{
    if (out->newest_count == 0)
        out->last = c->judged[number].first - 1;
    out->newest[out->newest_count++] = heldout_of(out, c, number, key);
}

/* Divides what was judged between what is trained on and what is measured with. numbers [texts], all 0. */
static void divide(collector *c, const asking *a, pair_set *out, uint32_t *numbers)
{
    for (size_t i = 0; i < c->shown.count; i++)
        out->shown[i] = c->shown.items[i].docno;
    for (size_t i = 0, skip_at = 0, train_at = 0, shown_at = 0; i < c->judged_count; i++) {
        const judged *j = &c->judged[i];
        if (!(c->weights[i].weight > 0)) {
            out->skipped++;
        } else if (holdout_takes(a->keys[i], c->options->heldout_share)) {
            add_heldout(out, c, i, a->keys[i], &shown_at);
        } else if (a->newest[train_at++]) {
            add_newest(out, c, i, a->keys[i]);
        } else {
            out->pair_documents[out->count] = document_of(out, c, j->document, numbers);
            add_pair(out, c, i);
            add_negatives(out, c, i, &skip_at, numbers);
        }
    }
}

static int compare_keys(const void *a, const void *b)
{
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* keys: room for as many as are held out. */
static size_t count_queries(const heldout_query *list, size_t count, uint64_t *keys)
{
    size_t different = 0;
    for (size_t i = 0; i < count; i++)
        keys[i] = list[i].key;
    qsort(keys, count, sizeof *keys, compare_keys);
    for (size_t i = 0; i < count; i++)
        different += i == 0 || keys[i] != keys[i - 1];
    return different;
}

/* Moves what was collected into out. */
static sem_status build_set(collector *c, pair_set *out, sem_error *err)
{
    sem_status status = skipped_choose(c->skips, &c->skip_count, c->weights, c->judged_count, &c->texts,
                                       c->options->negatives, &out->passed_by, err);
    if (status != SEM_OK)
        return status;
    shown_sort(&c->shown);
    uint32_t *numbers = calloc(c->texts.count + 1, sizeof *numbers);
    if (numbers == NULL || !take_memory(out, c)) {
        free(numbers);
        return sem_fail_memory(err, "the training pairs");
    }
    out->texts = c->texts.strings.data;
    c->texts.strings = (buffer){0};
    out->skipped = c->gone;
    asking a = {0};
    status = name_queries(c, out, &a, err);
    if (status == SEM_OK) {
        out->last = c->last;
        divide(c, &a, out, numbers);
        out->heldout_queries = count_queries(out->heldout, out->heldout_count, a.keys);
    }
    asking_free(&a);
    free(numbers);
    return status;
}

sem_status pair_set_collect(pair_set *out, store_read *r, const pair_options *options, sem_error *err)
{
    *out = (pair_set){0};
    collector c = {.read = r, .options = options, .err = err};
    sem_status status = events_judgements(r, 0, take_judgement, &c, err);
    if (status == SEM_OK)
        status = c.status;
    if (status == SEM_OK)
        status = weigh(&c, err);
    if (status == SEM_OK)
        status = build_set(&c, out, err);
    if (status != SEM_OK)
        pair_set_free(out);
    collector_free(&c);
    return status;
}

void pair_set_free(pair_set *set)
{
    free(set->pairs);
    free(set->negatives);
    free(set->documents);
    free(set->pair_documents);
    free(set->negative_documents);
    free(set->heldout);
    free(set->shown);
    free(set->newest);
    free(set->texts);
    free(set->mined_texts);
    *set = (pair_set){0};
}
