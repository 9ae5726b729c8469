/* Byte-pair encoding of words too long for the plain way (bpe.c). */
#ifndef SEM_MODEL_BPE_LONG_H
#define SEM_MODEL_BPE_LONG_H

#include "model/bpe.h"

/* Puts the tokens of one word of any length. Time is linear in length where
 * b->in_order (every trained vocabulary is): a word shorter than the number of
 * merges goes through a binary heap, of at most log2(merges) levels, a longer one
 * through a list for each merge. Otherwise it is the heap alone: vocabularies
 * exist whose merges were made up from a list of tokens, in an order that no training
 * has, so they cannot be refused; in them the order of equal pairs matters, which
 * lists do not keep. Its levels are at most 32, places having 32 bits, and grow by
 * one when the word doubles. Memory is at most 28 bytes a byte of the word and
 * 4 a merge. *steps (may be NULL) grows by the number of pairs
 * that were looked up, compared or passed over. False when memory is out. */
bool bpe_long_word(const bpe *b, const char *word, size_t length, token_sink *sink, size_t *steps);

#endif
