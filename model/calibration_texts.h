/* Texts on which a model's precisions are compared: several languages, subjects
 * and lengths, from one character to a paragraph. */
#ifndef SEM_MODEL_CALIBRATION_TEXTS_H
#define SEM_MODEL_CALIBRATION_TEXTS_H

#include <stddef.h>

extern const char *const calibration_texts[];
extern const size_t calibration_text_count;

#endif
