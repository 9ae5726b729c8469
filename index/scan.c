#include "index/scan.h"

void scan_flush(scan *s)
{
    if (s->waiting == 0)
        return;
    float scores[DOT_BATCH];
    s->kernel->rows(s->query, s->waiting_vectors, s->waiting, s->rows->width, scores);
    s->compared += s->waiting;
    for (size_t i = 0; i < s->waiting; i++) {
        /* Sums of huge numbers may end as infinity minus infinity; NaN has no
         * place in an order. */
        float score = isnan(scores[i]) ? -INFINITY : scores[i];
        if (score < topk_threshold(&s->best))
            continue;
        uint32_t row = s->waiting_rows[i];
        uint32_t docno = rows_docno(s->rows, row);
        if ((s->has_exclude && docno == s->exclude) || !rows_alive(s->rows, row, s->seen))
            continue;
        topk_push(&s->best, docno, row, score);
    }
    s->waiting = 0;
}

void scan_range(scan *s, uint32_t from, uint32_t to)
{
    for (uint32_t row = from; row < to;) {
        const rows_chunk *chunk = rows_chunk_of(s->rows, row);
        uint32_t first = row / ROWS_CHUNK * ROWS_CHUNK;
        uint32_t end = to - first < ROWS_CHUNK ? to : first + ROWS_CHUNK;
        for (; row < end; row++)
            if (scan_allows(s, chunk->docno[row - first]))
                scan_offer(s, row, rows_vector(s->view, row));
    }
    scan_flush(s);
}

static inline void offer_document(scan *s, uint32_t docno)
{
    uint32_t row = rows_row_of(s->rows, docno);
    if (row == ROW_NONE)
        return;
    for (uint32_t end = row + rows_passages(s->rows, row); row < end; row++) {
        const float *vector = rows_vector(s->view, row);
        __builtin_prefetch(vector);
        __builtin_prefetch(vector + DOT_LANES);
        scan_offer(s, row, vector);
    }
}

void scan_documents(scan *s)
{
    size_t words = (s->allowed_bits + 63) / 64;
    for (size_t w = 0; w < words; w++) {
        uint64_t bits = s->allowed[w];
        if (w == s->allowed_bits / 64)
            bits &= (UINT64_C(1) << s->allowed_bits % 64) - 1;
        for (; bits != 0; bits &= bits - 1) {
            size_t docno = w * 64 + (size_t)__builtin_ctzll(bits);
            if (docno <= UINT32_MAX)
                offer_document(s, (uint32_t)docno);
        }
    }
    scan_flush(s);
}

void scan_listed(scan *s, const uint32_t *docnos, size_t count)
{
    for (size_t i = 0; i < count; i++)
        offer_document(s, docnos[i]);
    scan_flush(s);
}
