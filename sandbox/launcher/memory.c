/* What compilers call for assignments, where no C library has it: in the launcher and in the tripwire. */
#ifndef SANDBOX_MEMORY_C
#define SANDBOX_MEMORY_C

#include <stddef.h>
#include <stdint.h>

void *memcpy(void *to, const void *from, size_t n);
void *memmove(void *to, const void *from, size_t n);
void *memset(void *to, int value, size_t n);

void *memcpy(void *to, const void *from, size_t n) {
    // cppcheck-suppress objectIndex // whoever calls says how many bytes lie there
    for (size_t i = 0; i < n; i++) ((char *)to)[i] = ((const char *)from)[i];
    // cppcheck-suppress uninitvar // the address is returned, not what lies there
    return to;
}

void *memmove(void *to, const void *from, size_t n) { /* zig's compiler assigns large structs with it */
    if ((uintptr_t)to <= (uintptr_t)from) return memcpy(to, from, n);
    while (n--) ((char *)to)[n] = ((const char *)from)[n];
    return to;
}

void *memset(void *to, int value, size_t n) {
    for (size_t i = 0; i < n; i++) ((char *)to)[i] = (char)value;
    return to;
}

#endif
