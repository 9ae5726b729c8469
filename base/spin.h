/* Waiting without giving up the processor. */
#ifndef SEM_BASE_SPIN_H
#define SEM_BASE_SPIN_H

/* Between two looks at what another thread will write. */
static inline void spin_pause(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

#endif
