#include "base/pages.h"

#include <errno.h>
#include <malloc.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static size_t page_size(void)
{
    return (size_t)sysconf(_SC_PAGESIZE);
}

enum { HUGE_PAGE = 2 << 20 }; /* bytes */

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

void *pages_alloc_huge(size_t bytes)
{
    return pages_alloc(bytes);
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

/* Where it begins is moved to a huge page's beginning; the rest is given back. */
void *pages_alloc_huge(size_t bytes)
{
    const size_t page = page_size();
    if (bytes > (size_t)-1 - HUGE_PAGE - page)
        return NULL;
    bytes = (bytes + page - 1) / page * page;
    char *all = pages_alloc(bytes + HUGE_PAGE);
    if (all == NULL)
        return NULL;
    const size_t before = (HUGE_PAGE - (uintptr_t)all % HUGE_PAGE) % HUGE_PAGE, behind = HUGE_PAGE - before;
    if (before > 0)
        munmap(all, before);
    munmap(all + before + bytes, behind);
    (void)madvise(all + before, bytes, MADV_HUGEPAGE); /* without them it is only slower */
    return all + before;
}

#endif

static bool read_instead(void *memory, int fd, size_t offset, size_t bytes)
{
    for (size_t done = 0; done < bytes;) {
        ssize_t n = pread(fd, (char *)memory + done, bytes - done, (off_t)(offset + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            errno = n == 0 ? EIO : errno;
            return false;
        }
        done += (size_t)n;
    }
    return true;
}

bool pages_map_file(void *memory, int fd, size_t offset, size_t bytes)
{
    if (bytes == 0)
        return true;
#ifndef __SANITIZE_ADDRESS__ /* under which memory is malloc's */
    const size_t page = page_size();
    if ((uintptr_t)memory % page == 0 && offset % page == 0 &&
        mmap(memory, (bytes + page - 1) / page * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED, fd,
             (off_t)offset) != MAP_FAILED)
        return true;
#endif
    return read_instead(memory, fd, offset, bytes);
}

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

void pages_clear(void *memory, size_t from, size_t to)
{
    char *bytes = memory;
    size_t kept_to = to, kept_from = to; /* what is given back lies between them */
#ifndef __SANITIZE_ADDRESS__             /* under which memory is malloc's */
    const size_t page = page_size(), first = (from + page - 1) / page * page, end = to - to % page;
    if (first < end && madvise(bytes + first, end - first, MADV_DONTNEED) == 0) {
        kept_to = first;
        kept_from = end;
    }
#endif
    memset(bytes + from, 0, kept_to - from);
    memset(bytes + kept_from, 0, to - kept_from);
}

void pages_trim(void)
{
#ifdef __GLIBC__
    malloc_trim(0);
#endif
}
