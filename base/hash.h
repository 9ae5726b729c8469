/* SipHash-2-4 (Aumasson and Bernstein 2012): a keyed hash. With a secret key it
 * hides user names; with a fixed one it names texts. */
#ifndef SEM_BASE_HASH_H
#define SEM_BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

uint64_t hash_keyed(const unsigned char key[16], const void *data, size_t size);

/* hash_keyed under a fixed public key: the same on every machine and run. */
uint64_t hash_text(const void *data, size_t size);

#endif
