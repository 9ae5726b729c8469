#include "model/attention_serve.h"

#include "model/attention_levels.h"
#include "model/processor.h"

#include <math.h>
#include <string.h>

/* Sums of weights between these lost nothing: a weight that was too small to be a
 * number is less than 2^-46 of the sum, and products with values up to 2^27 are
 * finite. */
static const float SUM_LEAST = 0x1p-80f, SUM_MOST = 0x1p100f;

static const float LOG2_E = 1.44269504f;

static bool is_wide(const char *name)
{
    return strcmp(name, "avx512") == 0 || strcmp(name, "amx") == 0;
}

static const attention_level *of_float32(const char *name)
{
#ifdef ATTENTION_X86
    if (is_wide(name))
        return &attention_avx512;
    if (strcmp(name, "avx2") == 0 || strcmp(name, "avxvnni") == 0)
        return &attention_avx2;
#endif
    return &attention_generic;
}

const attention_level *attention_of_bfloat16(const char *name)
{
#ifdef ATTENTION_X86
    __builtin_cpu_init();
    if (is_wide(name) && __builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("avx512vbmi") &&
        __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl"))
        return &attention_bfloat16;
#endif
    return of_float32(name);
}

const attention_level *attention_choose(const char *name, packed_precision precision)
{
    return precision != PACKED_FLOAT32 && processor_has_quick_bf16() ? attention_of_bfloat16(name) : of_float32(name);
}

/* --- working space */

static size_t rounded(size_t n, size_t to)
{
    return (n + to - 1) / to * to;
}

/* The parts of the working space, all of whole cache lines. */
typedef struct space_plan {
    size_t steps;                                 /* of a panel of keys */
    size_t query_stride, panel_stride, out_width; /* bytes, bytes, floats */
    size_t keys, values, queries, weights, out, line;
    size_t total; /* bytes */
} space_plan;

static space_plan plan_space(const attention_level *l, const attention_shape *s, size_t n)
{
    space_plan p;
    size_t wide = rounded(s->width, l->lanes);
    p.steps = (s->width + l->group - 1) / l->group;
    p.query_stride = rounded(p.steps * sizeof(float), 64);
    p.panel_stride = rounded(n, l->lanes) / l->group * l->lanes * sizeof(float);
    p.out_width = wide;
    p.keys = 0;
    p.values = p.keys + rounded(rounded(n, l->lanes) * p.steps * sizeof(float), 64);
    p.queries = p.values + rounded(wide / l->lanes * p.panel_stride, 64);
    p.weights = p.queries + ATTENTION_ROWS_MAX * p.query_stride;
    p.out = p.weights + ATTENTION_ROWS_MAX * ATTENTION_STRIDE;
    p.line = p.out + rounded(ATTENTION_ROWS_MAX * wide * sizeof(float), 64);
    p.total = p.line + rounded((2 * n + 2 * l->lanes) * sizeof(float), 64);
    return p;
}

size_t attention_space(const attention_level *level, const attention_shape *shape, size_t n)
{
    return (plan_space(level, shape, n).total + 64) / sizeof(float);
}

/* --- one head */

typedef struct head {
    const attention_level *level;
    const attention_shape *shape;
    space_plan plan;
    char *space;
    const float *qkv; /* the head's first query */
    size_t n;
    float *context; /* the head's first column */
    bool has_line;
    bool large; /* a tile's sums left the range: the next ones' may as well */
} head;

/* line[n - 1 + distance] = the bias of keys so far behind their query, as the
 * kernels add it. */
static void fill_line(const head *h, size_t number)
{
    const attention_shape *s = h->shape;
    const uint8_t *buckets = s->buckets + s->reach - h->n;
    const float unit = LOG2_E * h->level->unit;
    float *line = (float *)(void *)(h->space + h->plan.line);
    for (size_t i = 0; i < 2 * h->n - 1; i++)
        line[i] = unit * s->bias[buckets[i] * s->heads + number];
    memset(line + 2 * h->n - 1, 0, (2 * h->level->lanes + 1) * sizeof *line);
}

static void pack_head(head *h, size_t number)
{
    const attention_level *l = h->level;
    const size_t H = h->shape->hidden, D = h->shape->width;
    const float scale = LOG2_E * l->unit / sqrtf((float)D);
    l->pack_keys(h->qkv + H, 3 * H, h->n, D, scale, h->space + h->plan.keys);
    l->pack_values(h->qkv + 2 * H, 3 * H, h->n, D, h->space + h->plan.values);
    h->has_line = h->shape->bias != NULL;
    if (h->has_line)
        fill_line(h, number);
}

/* --- one tile of queries */

/* The queries [query, query + rows) and what they see. */
typedef struct span {
    size_t query, rows;
    size_t first, end; /* keys: first is that of a panel */
    attention_tile tile;
} span;

static void begin_span(const head *h, size_t query, size_t rows, span *s)
{
    const attention_level *l = h->level;
    const size_t window = h->shape->window, D = h->shape->width, stride = 3 * h->shape->hidden;
    const float *queries = h->qkv + query * stride;
    s->query = query;
    s->rows = rows;
    s->first = window > 0 && query > window ? (query - window) / l->lanes * l->lanes : 0;
    s->end = window > 0 && query + rows + window < h->n ? query + rows + window : h->n;
    s->tile.rows = rows;
    s->tile.steps = h->plan.steps;
    s->tile.weights = h->space + h->plan.weights;
    s->tile.queries = (const char *)queries;
    s->tile.query_stride = stride * sizeof *queries;
    if (l->pack_queries != NULL) {
        char *to = h->space + h->plan.queries;
        l->pack_queries(queries, stride, rows, D, to, h->plan.query_stride);
        s->tile.queries = to;
        s->tile.query_stride = h->plan.query_stride;
    }
    for (size_t r = 0; r < rows; r++)
        s->tile.base[r] = l->one - ATTENTION_LOWERED * l->unit;
}

/* Points the tile at the block of keys from key on; returns the block's keys. */
static size_t aim(const head *h, span *s, size_t key)
{
    const attention_level *l = h->level;
    const size_t most = ATTENTION_BLOCK / sizeof(float) * l->group, window = h->shape->window;
    size_t count = s->end - key < most ? s->end - key : most;
    s->tile.keys = h->space + h->plan.keys + key * h->plan.steps * sizeof(float);
    s->tile.panels = (count + l->lanes - 1) / l->lanes;
    s->tile.count = (ptrdiff_t)count;
    s->tile.first = window > 0 ? (ptrdiff_t)s->query - (ptrdiff_t)window - (ptrdiff_t)key : -ATTENTION_ROWS_MAX;
    s->tile.end = window > 0 ? (ptrdiff_t)(s->query + window + 1) - (ptrdiff_t)key : (ptrdiff_t)count;
    s->tile.line = NULL;
    if (h->has_line)
        s->tile.line = (const float *)(const void *)(h->space + h->plan.line) + (h->n - 1) + key - s->query;
    return count;
}

/* The block's share of the output: into the working space, or with the factor that
 * completes it into the context. */
static void multiply(const head *h, const span *s, size_t key, size_t count, const float *factor)
{
    const size_t group = h->level->group, D = h->shape->width, H = h->shape->hidden;
    float *out = (float *)(void *)(h->space + h->plan.out), *context = h->context + s->query * H;
    const bool direct = factor != NULL && D == h->plan.out_width;
    const attention_output o = {.rows = s->rows,
                                .weights = s->tile.weights,
                                .steps = (count + group - 1) / group,
                                .values = h->space + h->plan.values + key / group * h->level->lanes * sizeof(float),
                                .panel_stride = h->plan.panel_stride,
                                .width = D,
                                .before = key > s->first ? out : NULL,
                                .before_stride = h->plan.out_width,
                                .factor = factor,
                                .out = direct ? context : out,
                                .out_stride = direct ? H : h->plan.out_width};
    h->level->multiply(&o);
    for (size_t r = 0; factor != NULL && !direct && r < s->rows; r++)
        memcpy(context + r * H, out + r * h->plan.out_width, D * sizeof *out);
}

/* Sums become their inverses; false if one has left its range. */
static bool invert(size_t rows, float *sums)
{
    bool fine = true;
    for (size_t r = 0; r < rows; r++) {
        fine = fine && sums[r] >= SUM_LEAST && sums[r] <= SUM_MOST;
        sums[r] = 1.0f / sums[r];
    }
    return fine;
}

/* The span's part of the context; false, with nothing written, if sums left their
 * range (checked: whether that matters). */
static bool run_span(const head *h, span *s, bool checked)
{
    float sums[ATTENTION_ROWS_MAX] = {0};
    for (size_t key = s->first; key < s->end;) {
        size_t count = aim(h, s, key);
        bool last = key + count == s->end;
        h->level->weigh(&s->tile);
        h->level->sums(s->rows, s->tile.weights, s->tile.panels * h->level->lanes * sizeof(float) / h->level->group,
                       sums);
        if (last && !invert(s->rows, sums) && checked)
            return false;
        multiply(h, s, key, count, last ? sums : NULL);
        key += count;
    }
    return true;
}

/* Takes each row's largest product off its base, rounded up. */
static void lower_base(const head *h, span *s)
{
    float top[ATTENTION_ROWS_MAX];
    for (size_t r = 0; r < s->rows; r++) {
        top[r] = -INFINITY;
        s->tile.base[r] = 0;
    }
    for (size_t key = s->first; key < s->end;) {
        key += aim(h, s, key);
        h->level->largest(&s->tile, top);
    }
    for (size_t r = 0; r < s->rows; r++)
        s->tile.base[r] = h->level->one - ceilf(top[r]);
}

static void run_head(head *h)
{
    /* Tiles of nearly equal height. */
    const size_t tiles = (h->n + h->level->rows - 1) / h->level->rows;
    span s;
    for (size_t t = 0, query = 0; t < tiles; t++, query += s.rows) {
        begin_span(h, query, (h->n - query + tiles - t - 1) / (tiles - t), &s);
        if (!h->large && run_span(h, &s, true))
            continue;
        h->large = true;
        lower_base(h, &s);
        run_span(h, &s, false);
    }
}

void attention_serve(const attention_level *level, const attention_shape *shape, const float *qkv, size_t n,
                     size_t first, size_t end, float *context, float *space)
{
    head h = {.level = level, .shape = shape, .plan = plan_space(level, shape, n), .n = n};
    h.space = (char *)space + (64 - (uintptr_t)space % 64) % 64;
    for (size_t number = first; number < end; number++) {
        h.qkv = qkv + number * shape->width;
        h.context = context + number * shape->width;
        h.large = false;
        pack_head(&h, number);
        run_head(&h);
    }
}
