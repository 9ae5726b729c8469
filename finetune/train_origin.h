/* What a pair is to a run: pairs of one origin are drawn together (pair_order.h). */
#ifndef SEM_FINETUNE_TRAIN_ORIGIN_H
#define SEM_FINETUNE_TRAIN_ORIGIN_H

typedef enum train_origin {
    TRAIN_NEW,      /* not trained on before */
    TRAIN_REPLAYED, /* trained on in an earlier run, so that it is not forgotten */
    TRAIN_OWN_TEXT, /* made from a collection's own documents, so that what was known is not */
    TRAIN_ORIGINS
} train_origin;

#endif
