/* Filters on columns. A leaf picks keys of a field: an interval of them for
 * comparisons, some of these for `in`; its documents are those of the keys. Since
 * every operator of a leaf looks at one value, that is what filter_match does. */
#include "index/filter_tree.h"
#include "index/meta_columns.h"
#include "index/meta_state.h"

#include <stdlib.h>
#include <string.h>

enum {
    FEW = 64,      /* postings that are quicker to sort than to put into a bitmap */
    ASK_EVERY = 16 /* newer documents between two questions whether to go on */
};

typedef struct matching {
    const meta_state *state;
    meta_go_on *go_on; /* or NULL */
    void *context;
    bool stopped; /* go_on said so */
    uint64_t bits[DOCSET_WORDS];
    uint16_t list[DOCSET_LIST_MAX];
} matching;

/* Keys [from, to) of a field. */
typedef struct interval {
    uint32_t from, to;
} interval;

/* --- documents of keys */

static void set_bits(uint64_t bits[DOCSET_WORDS], const uint16_t *lows, size_t count)
{
    for (size_t i = 0; i < count; i++)
        bits[lows[i] / 64] |= UINT64_C(1) << lows[i] % 64;
}

/* Adds the documents of the keys to m->bits: runs that lie inside as a whole. */
static void spread_keys(matching *m, const meta_field *f, interval keys)
{
    for (size_t i = 0; i < f->run_count && keys.from < keys.to; i++) {
        const meta_run *run = &f->runs[i];
        if (run->from < keys.from || run->to > keys.to)
            continue;
        uint32_t at = meta_field_start(f, keys.from);
        set_bits(m->bits, f->postings + at, meta_field_start(f, run->from) - at);
        for (size_t w = 0; w < DOCSET_WORDS; w++)
            m->bits[w] |= run->bits[w];
        keys.from = run->to;
    }
    if (keys.from < keys.to) {
        uint32_t at = meta_field_start(f, keys.from);
        set_bits(m->bits, f->postings + at, meta_field_start(f, keys.to) - at);
    }
}

static size_t count_bits(const uint64_t bits[DOCSET_WORDS])
{
    size_t count = 0;
    for (size_t w = 0; w < DOCSET_WORDS; w++)
        count += (size_t)__builtin_popcountll(bits[w]);
    return count;
}

/* m->bits, of at most `most` documents; exactly so many with `exact`. Counting bits
 * is what takes longest here, so it is left out where it can be. */
static void add_bits(matching *m, size_t most, bool exact, uint32_t block, docset_builder *out)
{
    if (most <= DOCSET_LIST_MAX)
        docset_add_list(out, block, m->list, docset_list_bits(m->bits, m->list));
    else
        docset_add_bits(out, block, m->bits, exact ? most : count_bits(m->bits));
}

static void add_set(const meta_set *s, uint32_t block, docset_builder *out)
{
    if (s->bits != NULL)
        docset_add_bits(out, block, s->bits, s->count);
    else
        docset_add_list(out, block, s->list, s->count);
}

/* Puts a document into an ascending list that has it or not. */
static size_t insert(uint16_t *list, size_t count, uint16_t low)
{
    size_t at = count;
    while (at > 0 && list[at - 1] > low)
        at--;
    if (at > 0 && list[at - 1] == low)
        return count;
    memmove(list + at + 1, list + at, (count - at) * sizeof *list);
    list[at] = low;
    return count + 1;
}

static void add_keys(matching *m, const meta_field *f, interval keys, uint32_t block, docset_builder *out)
{
    if (keys.from >= keys.to)
        return;
    uint32_t at = meta_field_start(f, keys.from), count = meta_field_start(f, keys.to) - at;
    if (keys.to - keys.from == 1 && count <= DOCSET_LIST_MAX) {
        docset_add_list(out, block, f->postings + at, count);
        return;
    }
    if (count <= FEW) {
        size_t listed = 0;
        for (uint32_t i = 0; i < count; i++)
            listed = insert(m->list, listed, f->postings[at + i]);
        docset_add_list(out, block, m->list, listed);
        return;
    }
    if (f->single && count == f->present.count) { /* all values, and no array is empty */
        add_set(&f->present, block, out);
        return;
    }
    for (size_t i = 0; i < f->run_count; i++)
        if (f->runs[i].from == keys.from && f->runs[i].to == keys.to) {
            docset_add_bits(out, block, f->runs[i].bits, f->single ? count : count_bits(f->runs[i].bits));
            return;
        }
    memset(m->bits, 0, sizeof m->bits);
    spread_keys(m, f, keys);
    add_bits(m, count, f->single, block, out);
}

/* --- leaves */

static void narrow(interval *i, uint32_t from, uint32_t to)
{
    i->from = i->from > from ? i->from : from;
    i->to = i->to < to ? i->to : to;
}

/* Only values of the limit's own kind compare with it, and of these only numbers
 * and strings. */
static void narrow_by_limit(const meta_field *f, unsigned op, const value *limit, interval *keys)
{
    value_class kind = value_class_of(limit);
    uint32_t numbers = f->nils + f->bools[0] + f->bools[1], strings = numbers + f->numbers;
    if (kind == CLASS_NUMBER)
        narrow(keys, numbers, strings);
    else if (kind == CLASS_STRING)
        narrow(keys, strings, f->keys);
    else
        keys->to = keys->from;
    if (keys->from >= keys->to)
        return;
    uint32_t at = meta_field_search(f, 0, limit, op == OP_GT || op == OP_LTE);
    if (op == OP_GT || op == OP_GTE)
        narrow(keys, at, f->keys);
    else
        narrow(keys, 0, at);
}

static interval keys_of(const meta_field *f, const filter_node *leaf)
{
    interval keys = {.from = 0, .to = f->keys};
    if ((leaf->ops & OP_EQ) != 0) {
        uint32_t from = meta_field_search(f, 0, &leaf->operand[0], false);
        narrow(&keys, from, meta_field_search(f, from, &leaf->operand[0], true));
    }
    for (unsigned i = 1; i < LIMITS; i++)
        if ((leaf->ops & 1U << i) != 0)
            narrow_by_limit(f, 1U << i, &leaf->operand[i], &keys);
    return keys;
}

/* Both the values of `in` and the keys ascend: one passes through the other. */
static void add_in(matching *m, const meta_field *f, const filter_node *leaf, interval keys, uint32_t block,
                   docset_builder *out)
{
    size_t found = 0;
    interval last = {0, 0};
    uint32_t at = keys.from;
    for (size_t i = 0; i < leaf->in_count && at < keys.to; i++) {
        value key;
        at = meta_field_search(f, at, &leaf->in[i], false);
        if (at >= keys.to)
            break;
        meta_field_key(f, at, &key);
        if (value_compare(&key, &leaf->in[i]) != 0)
            continue;
        if (found == 1) {
            memset(m->bits, 0, sizeof m->bits);
            spread_keys(m, f, last);
        }
        last = (interval){.from = at, .to = at + 1};
        if (++found > 1)
            spread_keys(m, f, last);
        at++;
    }
    if (found > 1)
        add_bits(m, DOCSET_BLOCK, false, block, out);
    else
        add_keys(m, f, last, block, out);
}

static void add_without(matching *m, const meta_segment *s, const meta_field *f, uint32_t block, docset_builder *out)
{
    uint64_t present[DOCSET_WORDS] = {0};
    memset(m->bits, 0, sizeof m->bits);
    meta_set_spread(&s->live, m->bits);
    meta_set_spread(&f->present, present);
    for (size_t w = 0; w < DOCSET_WORDS; w++)
        m->bits[w] &= ~present[w];
    add_bits(m, s->live.count - f->present.count, true, block, out);
}

static void add_leaf(matching *m, const meta_segment *s, const filter_node *leaf, uint32_t block, docset_builder *out)
{
    const meta_field *f = meta_segment_field(s, leaf->field, leaf->field_length);
    bool lacks = leaf->ops == OP_EXISTS && !leaf->exists;
    if (f == NULL) {
        if (lacks)
            add_set(&s->live, block, out);
    } else if (lacks) {
        add_without(m, s, f, block, out);
    } else if ((leaf->ops & OP_EXISTS) != 0 && !leaf->exists) {
        return; /* no value passes where there is none */
    } else if (leaf->ops == OP_EXISTS) {
        add_set(&f->present, block, out);
    } else if ((leaf->ops & OP_IN) != 0) {
        add_in(m, f, leaf, keys_of(f, leaf), block, out);
    } else {
        add_keys(m, f, keys_of(f, leaf), block, out);
    }
}

/* --- the tree; NULL when memory is out, or when it was given up */

static bool goes_on(matching *m)
{
    if (!m->stopped && m->go_on != NULL)
        m->stopped = !m->go_on(m->context);
    return !m->stopped;
}

static docset *match_leaf(matching *m, const filter_node *leaf)
{
    docset_builder out = {0};
    for (size_t i = 0; i < m->state->count; i++)
        if (m->state->blocks[i] != NULL && m->state->blocks[i]->segment != NULL)
            add_leaf(m, m->state->blocks[i]->segment, leaf, (uint32_t)i, &out);
    return docset_finish(&out);
}

static docset *match_live(matching *m)
{
    docset_builder out = {0};
    for (size_t i = 0; i < m->state->count; i++)
        if (m->state->blocks[i] != NULL && m->state->blocks[i]->segment != NULL)
            add_set(&m->state->blocks[i]->segment->live, (uint32_t)i, &out);
    return docset_finish(&out);
}

static docset *match_node(matching *m, const filter_node *n);

/* set without, or with, the documents of a child; false as match_node is NULL. */
static bool combine(matching *m, const filter_node *parent, const filter_node *child, docset *set)
{
    bool without = parent->kind == NODE_ALL && child->kind == NODE_NOT;
    docset *other = match_node(m, without ? &child->children[0] : child);
    if (other == NULL)
        return false;
    if (without)
        roaring_bitmap_andnot_inplace(set, other);
    else if (parent->kind == NODE_ALL)
        roaring_bitmap_and_inplace(set, other);
    else
        roaring_bitmap_or_inplace(set, other);
    docset_free(other);
    return true;
}

static docset *match_children(matching *m, const filter_node *n)
{
    docset *set = match_node(m, &n->children[0]);
    for (size_t i = 1; set != NULL && i < n->count; i++) {
        if (n->kind == NODE_ALL && roaring_bitmap_is_empty(set))
            break;
        if (!combine(m, n, &n->children[i], set)) {
            docset_free(set);
            return NULL;
        }
    }
    return set;
}

static docset *match_node(matching *m, const filter_node *n)
{
    if (!goes_on(m))
        return NULL;
    if (n->kind == NODE_LEAF)
        return match_leaf(m, n);
    if (n->kind != NODE_NOT && n->count > 0)
        return match_children(m, n);
    if (n->kind == NODE_ANY)
        return roaring_bitmap_create();
    docset *live = match_live(m);
    docset *without = live != NULL && n->kind == NODE_NOT ? match_node(m, &n->children[0]) : NULL;
    if (without != NULL)
        roaring_bitmap_andnot_inplace(live, without);
    if (live != NULL && without == NULL && n->kind == NODE_NOT) {
        docset_free(live);
        return NULL;
    }
    docset_free(without);
    return live;
}

/* --- newer documents */

static void look_at_newer(matching *m, const meta_block *b, const filter *f, uint32_t block, docset_builder *replaced,
                          docset_builder *passing)
{
    uint64_t pass[DOCSET_WORDS] = {0};
    size_t count = 0;
    memset(m->bits, 0, sizeof m->bits);
    for (size_t i = 0; i < b->count && (i % ASK_EVERY != 0 || goes_on(m)); i++) {
        const meta_copy *copy = b->newer[i].copy;
        set_bits(m->bits, &b->newer[i].low, 1);
        if (copy->removed || !filter_match(f, copy->bytes, copy->length))
            continue;
        set_bits(pass, &b->newer[i].low, 1);
        count++;
    }
    if (m->stopped) /* not all of them are among the bits */
        return;
    docset_add_bits(replaced, block, m->bits, b->count);
    docset_add_bits(passing, block, pass, count);
}

/* They count instead of what the segments have of them. */
static bool match_newer(matching *m, const filter *f, docset *set)
{
    docset_builder replaced = {0}, passing = {0};
    for (size_t i = 0; i < m->state->count; i++)
        if (m->state->blocks[i] != NULL && m->state->blocks[i]->count > 0)
            look_at_newer(m, m->state->blocks[i], f, (uint32_t)i, &replaced, &passing);
    docset *without = docset_finish(&replaced), *with = docset_finish(&passing);
    bool done = without != NULL && with != NULL && !m->stopped;
    if (done) {
        roaring_bitmap_andnot_inplace(set, without);
        roaring_bitmap_or_inplace(set, with);
    }
    docset_free(without);
    docset_free(with);
    return done;
}

/* state: pinned by the caller. */
static sem_status match_state(const meta_state *state, const filter *f, meta_go_on *go_on, void *context, docset **out,
                              sem_error *err)
{
    matching *m = malloc(sizeof *m);
    if (m == NULL)
        return sem_fail_memory(err, "a filter");
    m->state = state;
    m->go_on = go_on;
    m->context = context;
    m->stopped = false;
    docset *set = match_node(m, &f->root);
    const bool done = set != NULL && match_newer(m, f, set), stopped = m->stopped;
    free(m);
    if (done) {
        *out = set;
        return SEM_OK;
    }
    docset_free(set);
    return stopped ? sem_fail(err, SEM_CANCELLED, "a filter was given up") : sem_fail_memory(err, "a filter");
}

sem_status meta_columns_match(meta_columns *c, const filter *f, meta_go_on *go_on, void *context, docset **out,
                              sem_error *err)
{
    *out = NULL;
    if (!meta_columns_ready(c))
        return SEM_OK;
    meta_state *s = meta_state_acquire(c);
    sem_status status = s->complete ? match_state(s, f, go_on, context, out, err) : SEM_OK;
    meta_state_release(s);
    return status;
}
