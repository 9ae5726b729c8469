/* Whole pages straight from the kernel: for what is large and lives long, and
 * must leave the process when it is freed, which malloc does not promise. */
#ifndef SEM_BASE_PAGES_H
#define SEM_BASE_PAGES_H

#include <stdbool.h>
#include <stddef.h>

/* Zeroed, aligned to a page (64 bytes under AddressSanitizer, which then sees
 * accesses beyond the end); NULL when memory is out. bytes is not 0. */
void *pages_alloc(size_t bytes);
void pages_free(void *memory, size_t bytes); /* accepts NULL */
/* The same in pages of 2 MiB as far as the kernel has them, for what is read all over
 * again and again: a walk through it meets fewer pages. Freed with pages_free. */
void *pages_alloc_huge(size_t bytes);

/* What lies in a file from `offset` on (a multiple of a page) takes the place of memory from
 * pages_alloc or pages_alloc_huge, up to the end of the last page: it is read when it is looked at,
 * and what is written stays in memory. Where that cannot be, all is read at once. False: it could
 * not be read, and errno says why. */
bool pages_map_file(void *memory, int fd, size_t offset, size_t bytes);

/* Address space for `bytes` bytes, aligned to a page, that takes no memory and may
 * not be touched; NULL when there is none. Freed with pages_release. */
void *pages_reserve(size_t bytes);
void pages_release(void *memory, size_t bytes); /* accepts NULL */
/* Makes bytes [from, to) of what was reserved usable, zeroed where they were not
 * usable before; false when memory is out. */
bool pages_open(void *memory, size_t from, size_t to);
/* Gives the memory of [from, to) back but for pages that it shares with its
 * neighbours; a touch of what was given back ends the process. */
void pages_drop(void *memory, size_t from, size_t to);

/* Makes bytes [from, to) of memory from pages_alloc zero and gives their memory back but for pages
 * that it shares with its neighbours: they take some again when they are touched. */
void pages_clear(void *memory, size_t from, size_t to);

/* Gives back what malloc keeps of memory that was freed, in all threads' heaps: after
 * much was freed that will not be needed again. Takes some milliseconds. */
void pages_trim(void);

#endif
