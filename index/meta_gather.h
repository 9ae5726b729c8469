/* The meta of some documents taken apart: by field, in order of value. */
#ifndef SEM_INDEX_META_GATHER_H
#define SEM_INDEX_META_GATHER_H

#include "index/meta_segment.h"

/* A document that has a value. */
typedef struct gathered_value {
    uint64_t rank; /* never falls where the value rises: what is compared first */
    uint32_t at;   /* in gathered.values */
    uint16_t low;
} gathered_value;

typedef struct gathered_field {
    const char *name; /* borrowed from the sources */
    size_t name_length;
    size_t present_from, present_count; /* in gathered.present */
    size_t from, count;                 /* in gathered.sorted */
    uint32_t seen;                      /* source that had it last, from 1 */
} gathered_field;

/* A document that has a field, or a value of one. */
typedef struct gathered_item {
    uint32_t field;
    uint32_t at;
    uint16_t low;
} gathered_item;

typedef struct gathered {
    gathered_field *fields; /* by name */
    size_t field_count, field_capacity;
    value *values;
    size_t value_count, value_capacity;
    gathered_value *sorted; /* [value_count] by field, value and document; repeated ones included */
    uint16_t *present;      /* [presence_count] by field, ascending */
    /* while it is being made: */
    gathered_item *raw, *presence;
    size_t raw_capacity, presence_count, presence_capacity;
    uint32_t *table; /* of names; 0: free, else the field's number from 1 */
    size_t table_size;
    unsigned char key[16]; /* secret: who writes meta must not be able to choose names that collide */
} gathered;

/* Strings stay borrowed from the sources. Freed by gather_free, also after an error. */
sem_status gather_meta(gathered *out, const meta_source *sources, size_t count, sem_error *err);
void gather_free(gathered *g);

/* <0, 0, >0: names by their bytes, the order of fields. */
int meta_compare_names(const char *a, size_t a_length, const char *b, size_t b_length);

#endif
