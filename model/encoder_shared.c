#include "model/encoder_shared.h"

#include "model/layer_norm.h"

enum {
    /* Chunks of a product: enough that one thread's last chunk keeps the others
     * waiting for a small part of the phase only, few enough that claiming them
     * costs nothing beside: no fewer than this, and of so many bytes of weights. */
    PRODUCT_CHUNKS = 16,
    PRODUCT_CHUNKS_MOST = 256,
    PRODUCT_CHUNK_BYTES = 48 << 10,
    ATTENTION_CHUNKS = 12,
    ROWS_A_CHUNK = 2
};

/* Part number i of so many of 0 to n. */
static size_t part(size_t n, size_t i, size_t parts)
{
    return n * i / parts;
}

/* --- products */

typedef struct product {
    const packed *p;
    packed_rows *b;
    float *x;
    packed_function *f;
    float *y;
    size_t width, chunks;
    bool convert;
} product;

static void prepare_rows(void *context, size_t chunk, size_t member)
{
    (void)member;
    const product *a = context;
    size_t first = chunk * ROWS_A_CHUNK, last = first + ROWS_A_CHUNK;
    last = last < a->b->count ? last : a->b->count;
    if (a->f != NULL)
        for (size_t r = first; r < last; r++)
            a->f(a->x + r * a->width, a->width, a->x + r * a->width);
    if (a->convert)
        packed_convert(a->p, a->b, a->x, first, last);
}

static void multiply_part(void *context, size_t chunk, size_t member)
{
    const product *a = context;
    const size_t panels = packed_panels(a->p), last = part(panels, chunk + 1, a->chunks);
    /* The leader goes on upwards, helpers downwards. */
    const size_t next = member == 0 || chunk == 0 ? last : part(panels, chunk - 1, a->chunks);
    packed_multiply_panels(a->p, a->b, part(panels, chunk, a->chunks), last, next, a->y);
}

static size_t product_chunks(const packed *p)
{
    const size_t panels = packed_panels(p), fine = packed_weight_bytes(p) / PRODUCT_CHUNK_BYTES;
    const size_t most = fine < PRODUCT_CHUNKS_MOST ? fine : PRODUCT_CHUNKS_MOST;
    const size_t chunks = most > PRODUCT_CHUNKS ? most : PRODUCT_CHUNKS;
    return panels < chunks ? panels : chunks;
}

void shared_multiply(crew *c, const packed *p, size_t rows, float *x, packed_function *f, float *y, float *space)
{
    if (c == NULL) {
        packed_multiply(p, rows, x, f, y, space);
        return;
    }
    packed_rows b;
    product a = {.p = p, .b = &b, .x = x, .f = f, .y = y, .width = packed_width(p)};
    a.chunks = product_chunks(p);
    a.convert = packed_rows_begin(p, &b, rows, x, space);
    if (a.convert || f != NULL)
        crew_run(c, prepare_rows, &a, (rows + ROWS_A_CHUNK - 1) / ROWS_A_CHUNK);
    crew_run(c, multiply_part, &a, a.chunks);
}

/* --- layer normalisation */

typedef struct normalization {
    const shared_norm *n;
    size_t rows;
    const float *x, *residual;
    float *y;
} normalization;

static void normalize_rows(const normalization *a, size_t first, size_t rows)
{
    const shared_norm *n = a->n;
    size_t at = first * n->hidden;
    layer_norm_forward(n->k, rows, n->hidden, a->x + at, a->residual == NULL ? NULL : a->residual + at, n->weight,
                       n->bias, n->eps, NULL, NULL, a->y + at);
}

static void normalize_part(void *context, size_t chunk, size_t member)
{
    (void)member;
    const normalization *a = context;
    size_t first = chunk * ROWS_A_CHUNK, left = a->rows - first;
    normalize_rows(a, first, left < ROWS_A_CHUNK ? left : ROWS_A_CHUNK);
}

void shared_normalize(crew *c, const shared_norm *n, size_t rows, const float *x, const float *residual, float *y)
{
    normalization a = {n, rows, x, residual, y};
    if (c == NULL)
        normalize_rows(&a, 0, rows);
    else
        crew_run(c, normalize_part, &a, (rows + ROWS_A_CHUNK - 1) / ROWS_A_CHUNK);
}

/* --- attention */

typedef struct attention_work {
    const attention_level *level;
    const attention_shape *shape;
    const shared_texts *t;
    const float *qkv;
    float *context, *space;
    size_t space_each; /* floats */
    size_t parts;      /* of a text's heads */
} attention_work;

static void attend_part(void *context, size_t chunk, size_t member)
{
    const attention_work *a = context;
    const size_t H = a->shape->hidden, A = a->shape->heads, text = chunk / a->parts, i = chunk % a->parts;
    size_t at = 0;
    for (size_t b = 0; b < text; b++)
        at += a->t->lengths[b];
    attention_serve(a->level, a->shape, a->qkv + at * 3 * H, a->t->lengths[text], part(A, i, a->parts),
                    part(A, i + 1, a->parts), a->context + at * H, a->space + member * a->space_each);
}

void shared_attend(crew *c, const attention_level *level, const attention_shape *shape, const shared_texts *t,
                   const float *qkv, float *context, float *space)
{
    attention_work a = {level, shape, t, qkv, context, space, attention_space(level, shape, t->longest), 1};
    if (c == NULL) {
        for (size_t b = 0; b < t->texts; b++)
            attend_part(&a, b, 0);
        return;
    }
    a.parts = shape->heads < ATTENTION_CHUNKS ? shape->heads : ATTENTION_CHUNKS;
    crew_run(c, attend_part, &a, t->texts * a.parts);
}
