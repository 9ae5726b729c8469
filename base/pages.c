#include "base/pages.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static size_t page_size(void)
{
    return (size_t)sysconf(_SC_PAGESIZE);
}

#ifdef __SANITIZE_ADDRESS__

void *pages_alloc(size_t bytes)
{
    void *memory = bytes > (size_t)-1 - 63 ? NULL : aligned_alloc(64, (bytes + 63) & ~(size_t)63);
    if (memory != NULL)
        memset(memory, 0, bytes);
    return memory;
}

void pages_free(void *memory, size_t bytes)
{
    (void)bytes;
    free(memory);
}

#else

void *pages_alloc(size_t bytes)
{
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return memory == MAP_FAILED ? NULL : memory;
}

void pages_free(void *memory, size_t bytes)
{
    if (memory != NULL)
        munmap(memory, bytes);
}

#endif

void *pages_reserve(size_t bytes)
{
    void *memory = mmap(NULL, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED)
        return NULL;
    /* Small parts of it are used: with huge pages each would take 2 MiB. */
    (void)madvise(memory, bytes, MADV_NOHUGEPAGE);
    return memory;
}

void pages_release(void *memory, size_t bytes)
{
    if (memory != NULL)
        munmap(memory, bytes);
}

bool pages_open(void *memory, size_t from, size_t to)
{
    const size_t page = page_size();
    from -= from % page;
    return mprotect((char *)memory + from, to - from, PROT_READ | PROT_WRITE) == 0;
}

void pages_drop(void *memory, size_t from, size_t to)
{
    const size_t page = page_size();
    from = (from + page - 1) / page * page;
    to -= to % page;
    if (from >= to)
        return;
    /* Failing is harmless: the memory stays until it is released. */
    if (madvise((char *)memory + from, to - from, MADV_DONTNEED) == 0)
        (void)mprotect((char *)memory + from, to - from, PROT_NONE);
}
