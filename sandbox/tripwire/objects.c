/* The objects of the process (man 5 elf, man 3 dl_iterate_phdr): their symbols and relocations, before they are used.
 */
#ifndef SANDBOX_OBJECTS_C
#define SANDBOX_OBJECTS_C

#include "places.c"

struct link_map { /* link.h: what of it is public */
    uint64_t base;
    const char *name;
    struct dynamic {
        int64_t tag;
        uint64_t value;
    } * dynamic;
    struct link_map *next, *previous;
};

struct symbol { /* Elf64_Sym */
    uint32_t name;
    uint8_t info, other;
    uint16_t section;
    uint64_t value, size;
};

struct relocation { /* Elf64_Rela */
    uint64_t place, info;
    int64_t addend;
};

struct segment { /* Elf64_Phdr */
    uint32_t type, flags;
    uint64_t offset, address, physical, in_file, in_memory, alignment;
};

struct object {
    uint64_t base;
    const char *name, *strings, *own_name;
    const struct symbol *symbols;
    struct relocation *relocations, *jumps;
    size_t relocation_count, jump_count, relative_count;
    const uint32_t *hash;
    const uint16_t *versions;
};

enum { DT_NULL, DT_PLTRELSZ = 2, DT_STRTAB = 5, DT_SYMTAB, DT_RELA, DT_RELASZ, DT_SONAME = 14, DT_JMPREL = 23 };
enum { DT_GNU_HASH = 0x6ffffef5, DT_RELACOUNT = 0x6ffffff9, DT_VERSYM = 0x6ffffff0, HIDDEN = 0x8000 };
enum { PAGE = 4096, LARGEST_PAGE = 65536, MOST_OBJECTS = 1024, PT_LOAD = 1, AT_PHDR = 3, AT_PHNUM = 5, AT_PAGESZ = 6 };
enum { PROT_EXEC = 4, LM_ID_BASE = 0 };
#if defined(__x86_64__)
enum { R_ABSOLUTE = 1, R_GLOB_DAT = 6, R_JUMP_SLOT = 7, R_RELATIVE = 8 };
#else
enum { R_ABSOLUTE = 257, R_GLOB_DAT = 1025, R_JUMP_SLOT = 1026, R_RELATIVE = 1027 };
#endif

static const struct link_map *maps[MOST_OBJECTS];
static uint32_t map_count;

/* Addresses in the dynamic section are as the file has them, or the loader has added the base already. */
static uint64_t placed(uint64_t base, uint64_t value) { return value < base ? base + value : value; }

static void read_object(const struct link_map *map, struct object *to) {
    uint64_t base = map->base, own_name = 0;
    *to = (struct object){.base = base, .name = map->name ? map->name : "", .own_name = ""};
    for (const struct dynamic *at = map->dynamic; at && at->tag != DT_NULL; at++) {
        void *value = (void *)placed(base, at->value); /* NOLINT: an address */
        switch (at->tag) {
        case DT_STRTAB:
            to->strings = value;
            break;
        case DT_SYMTAB:
            to->symbols = value;
            break;
        case DT_RELA:
            to->relocations = value;
            break;
        case DT_RELASZ:
            to->relocation_count = at->value / sizeof(struct relocation);
            break;
        case DT_RELACOUNT:
            to->relative_count = at->value;
            break;
        case DT_JMPREL:
            to->jumps = value;
            break;
        case DT_PLTRELSZ:
            to->jump_count = at->value / sizeof(struct relocation);
            break;
        case DT_GNU_HASH:
            to->hash = value;
            break;
        case DT_VERSYM:
            to->versions = value;
            break;
        case DT_SONAME:
            own_name = at->value;
            break;
        default:
            break;
        }
    }
    if (own_name && to->strings) to->own_name = to->strings + own_name;
}

static uint32_t gnu_hash(const char *name) {
    uint32_t found = 5381;
    for (; *name; name++) found = found * 33 + (uint8_t)*name;
    return found;
}

/* The symbol that an object defines under a name, in its default version; NULL for none. */
static const struct symbol *defined(const struct object *object, const char *name, uint32_t hash) {
    if (!object->hash || !object->symbols || !object->strings) return NULL;
    uint32_t buckets = object->hash[0], first = object->hash[1], words = object->hash[2], shift = object->hash[3];
    const uint64_t *bloom = (const uint64_t *)(const void *)(object->hash + 4);
    const uint32_t *bucket = (const uint32_t *)(const void *)(bloom + words), *chain = bucket + buckets;
    uint64_t word = bloom[hash / 64 % words], both = 1ULL << hash % 64 | 1ULL << (hash >> shift) % 64;
    if ((word & both) != both || !buckets) return NULL;
    uint32_t i = bucket[hash % buckets];
    if (i < first) return NULL;
    const struct symbol *other = NULL;
    for (;; i++) {
        uint32_t here = chain[i - first];
        if ((here | 1) == (hash | 1) && same(object->strings + object->symbols[i].name, name) &&
            object->symbols[i].section) {
            if (!object->versions || !(object->versions[i] & HIDDEN)) return &object->symbols[i];
            other = &object->symbols[i];
        }
        if (here & 1) return other;
    }
}

static uint64_t address_of(const struct object *object, const char *name) {
    const struct symbol *found = defined(object, name, gnu_hash(name));
    return found ? object->base + found->value : 0;
}

/* A number of the auxiliary vector, behind the environment. */
static uint64_t auxiliary(uint64_t type) {
    char **at = environment;
    while (*at) at++;
    for (const uint64_t *entry = (const uint64_t *)(const void *)(at + 1); *entry; entry += 2)
        if (*entry == type) return entry[1];
    return 0;
}

/* What the loader mapped an address of an object with: bits of PROT_*. */
static uint64_t protection_of(const struct object *object, uint64_t address) {
    const struct segment *at = NULL;
    size_t count = 0;
    const unsigned char *head = (const unsigned char *)object->base; /* NOLINT: an address */
    if (!object->base || !*object->name) {
        at = (const struct segment *)auxiliary(AT_PHDR), count = auxiliary(AT_PHNUM); /* NOLINT */
    } else if (same_bytes(head, "\177ELF", 4)) {
        uint64_t offset;
        uint16_t number;
        memcpy(&offset, head + 32, 8);
        memcpy(&number, head + 56, 2);
        at = (const struct segment *)(const void *)(head + offset), count = number;
    }
    for (; at && count; count--, at++)
        if (at->type == PT_LOAD && address - object->base - at->address < at->in_memory)
            return (at->flags & 4 ? 1U : 0U) | (at->flags & 2) | (at->flags & 1 ? PROT_EXEC : 0U);
    return 1;
}

/* Which of our functions a symbol of this name is; negative for none. */
static int find_function(const char *name);
static uint64_t stand_in_of(int function);

/* Have the words that a table fills with one of our functions filled with its way in: the loader has not come to them
 * yet, and a relative relocation needs no symbol. */
static void redirect(const struct object *object, struct relocation *table, size_t first, size_t count, int jumps) {
    uint64_t page = auxiliary(AT_PAGESZ), begin = 0, end = 0, was = 0;
    if (!page) page = PAGE;
    for (size_t i = first; table && i < count; i++) {
        uint32_t type = (uint32_t)table[i].info, symbol = (uint32_t)(table[i].info >> 32);
        if (type != R_GLOB_DAT && (type != R_ABSOLUTE || table[i].addend) && (!jumps || type != R_JUMP_SLOT)) continue;
        if (!symbol || object->symbols[symbol].section) continue;
        int function = find_function(object->strings + object->symbols[symbol].name);
        uint64_t way = function < 0 ? 0 : stand_in_of(function);
        if (!way) continue;
        if (!begin) {
            begin = (uint64_t)table / page * page;
            end = ((uint64_t)(table + count) + page - 1) / page * page;
            was = protection_of(object, (uint64_t)table);
            if (SYS3(mprotect, begin, end - begin, was | PROT_READ_WRITE) < 0) return;
        }
        table[i].info = R_RELATIVE, table[i].addend = (int64_t)(way - object->base);
    }
    if (begin && !(was & 2)) SYS3(mprotect, begin, end - begin, was);
}

/* The file whose code is at an address, '' where it is unknown: the object that begins nearest before it. */
static const char *object_at(uint64_t address) {
    const struct link_map *nearest = NULL;
    for (uint32_t i = 0; i < map_count; i++)
        if (maps[i] && maps[i]->base <= address && (!nearest || maps[i]->base >= nearest->base)) nearest = maps[i];
    if (!nearest) return "";
    return nearest->name && *nearest->name ? nearest->name : own_path ? own_path : "";
}

#endif
