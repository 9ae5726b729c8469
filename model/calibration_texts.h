/* Texts on which a model's precisions are compared: several languages, subjects
 * and lengths, from one character to a paragraph. */
#ifndef SEM_MODEL_CALIBRATION_TEXTS_H
#define SEM_MODEL_CALIBRATION_TEXTS_H

#include "model/tokenizer.h"

extern const char *const calibration_texts[];
extern const size_t calibration_text_count;

/* Where the texts name few tokens of a vocabulary, as one of another subject or a small
 * one leaves nearly all unknown, appends texts of up to `longest` tokens drawn from the
 * whole of it, the same each time: what is not met is not measured. */
sem_status calibration_add_drawn(token_batch *batch, size_t vocab, size_t longest, sem_error *err);

#endif
