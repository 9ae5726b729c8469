/* JSON texts (job records, metrics) as MessagePack. */
#ifndef SEM_DAEMON_JSON_PACK_H
#define SEM_DAEMON_JSON_PACK_H

#include "proto/pack.h"

#include <jansson.h>

/* Packs any JSON value; depth is that of our own records. */
void json_pack_value(packer *p, const json_t *value);
/* Parses and packs a text; nil if it is NULL or no JSON. */
void json_pack_text(packer *p, const char *text);

#endif
