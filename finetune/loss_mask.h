/* Which candidates are no negatives of which anchors. */
#ifndef SEM_FINETUNE_LOSS_MASK_H
#define SEM_FINETUNE_LOSS_MASK_H

#include "finetune/loss.h"

#include <stdint.h>

enum {
    LOSS_MASK_ROW = 1,   /* where the anchor ranks candidates */
    LOSS_MASK_COLUMN = 2 /* where the candidate ranks anchors */
};

/* Fills masks [B, C]; an anchor and its own positive are never masked. Both ways
 * for a candidate that is a positive of the same query (by id or text, this pair's
 * or another's), is the anchor's own text, or has its label. By the guide where
 * the two are closer than anchor and positive less guide_margin (Solatorio 2024,
 * "GISTEmbed"): its own positive one way, the candidate's own anchor the other. */
void loss_masks(const loss_batch *batch, double guide_margin, uint8_t *masks);

#endif
