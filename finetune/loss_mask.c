#include "finetune/loss_mask.h"

#include <stdbool.h>
#include <string.h>

static bool equal(const uint64_t *keys, size_t a, size_t b)
{
    return keys != NULL && keys[a] == keys[b] && keys[a] != LOSS_NO_KEY;
}

/* Texts a and b are both anchors or both candidates. */
static bool same(const loss_batch *batch, size_t a, size_t b)
{
    return a == b || equal(batch->id, a, b) || equal(batch->text, a, b);
}

/* Marks what is the positive of pair k. */
static void mask_positive(const loss_batch *batch, size_t k, uint8_t *row)
{
    size_t b = batch->pairs;
    for (size_t j = 0; j < batch->texts - b; j++) {
        if (same(batch, b + j, b + k))
            row[j] = LOSS_MASK_ROW | LOSS_MASK_COLUMN;
    }
}

static void mask_row(const loss_batch *batch, size_t i, uint8_t *row)
{
    size_t b = batch->pairs;
    for (size_t k = 0; k < b; k++) {
        if (same(batch, i, k))
            mask_positive(batch, k, row);
    }
    for (size_t j = 0; j < batch->texts - b; j++) {
        if (equal(batch->text, i, b + j) || equal(batch->label, i, b + j))
            row[j] = LOSS_MASK_ROW | LOSS_MASK_COLUMN;
    }
}

static void mask_row_by_guide(const loss_batch *batch, double margin, size_t i, uint8_t *row)
{
    size_t b = batch->pairs, c = batch->texts - b;
    const float *guide = batch->guide;
    for (size_t j = 0; j < c; j++) {
        if (guide[i * c + j] > guide[i * c + i] - margin)
            row[j] |= LOSS_MASK_ROW;
        if (j < b && guide[i * c + j] > guide[j * c + j] - margin)
            row[j] |= LOSS_MASK_COLUMN;
    }
}

void loss_masks(const loss_batch *batch, double guide_margin, uint8_t *masks)
{
    size_t c = batch->texts - batch->pairs;
    memset(masks, 0, batch->pairs * c);
    for (size_t i = 0; i < batch->pairs; i++) {
        mask_row(batch, i, masks + i * c);
        if (batch->guide != NULL)
            mask_row_by_guide(batch, guide_margin, i, masks + i * c);
        masks[i * c + i] = 0;
    }
}
