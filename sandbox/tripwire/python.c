/* The hook for Python's own events (PEP 578), and whose Python code makes a call. What the hook sees of a function that
 * knows of it, it sees no more: memory that the function may write holds the list of hooks. */
#ifndef SANDBOX_PYTHON_C
#define SANDBOX_PYTHON_C

#include "objects.c"

enum { ORIGIN = 1536, DEEPEST = 64, TOLD = 256 };

static struct { /* of the interpreter, as far as it exports them */
    int (*PySys_AddAuditHook)(int (*)(const char *, void *, void *), void *);
    void *(*PyTuple_GetItem)(void *, long);
    const char *(*PyUnicode_AsUTF8)(void *);
    void (*PyErr_Clear)(void);
    void *(*PyErr_Occurred)(void);
    void (*PyErr_SetString)(void *, const char *);
    void *(*PyEval_GetFrame)(void);
    void *(*PyFrame_GetCode)(void *);
    void *(*PyFrame_GetBack)(void *);
    int (*PyFrame_GetLineNumber)(void *);
    void *(*PyObject_GetAttrString)(void *, const char *);
    void (*Py_DecRef)(void *);
    void (*Py_IncRef)(void *);
    void *(*PyGILState_GetThisThreadState)(void);
    int (*PyGILState_Ensure)(void);
    void (*PyGILState_Release)(int);
    void **PyExc_PermissionError;
} py;

static const char *const PYTHON_NAMES[] = {"PySys_AddAuditHook",
                                           "PyTuple_GetItem",
                                           "PyUnicode_AsUTF8",
                                           "PyErr_Clear",
                                           "PyErr_Occurred",
                                           "PyErr_SetString",
                                           "PyEval_GetFrame",
                                           "PyFrame_GetCode",
                                           "PyFrame_GetBack",
                                           "PyFrame_GetLineNumber",
                                           "PyObject_GetAttrString",
                                           "Py_DecRef",
                                           "Py_IncRef",
                                           "PyGILState_GetThisThreadState",
                                           "PyGILState_Ensure",
                                           "PyGILState_Release",
                                           "PyExc_PermissionError"};
static int has_python;

static void violation(const char *syscall, const char *class, const char *shown, const char *target, int code,
                      const char *reason, const char *allow, const char *by);

/* Whether an object is an interpreter, and all of it. */
static int take_python(const struct object *object) {
    uint64_t *to = (uint64_t *)(void *)&py;
    if (has_python || !address_of(object, PYTHON_NAMES[0])) return 0;
    for (size_t i = 0; i < sizeof PYTHON_NAMES / sizeof *PYTHON_NAMES; i++)
        if (!(to[i] = address_of(object, PYTHON_NAMES[i]))) return 0;
    return has_python = 1;
}

static const char *text_of(void *object) {
    const char *found = object ? py.PyUnicode_AsUTF8(object) : NULL;
    if (!found) py.PyErr_Clear();
    return found ? found : "";
}

static int is_below(const char *path, const char *folder) {
    size_t n = text_length(folder);
    return n && starts_with(path, folder) && (path[n] == '/' || folder[n - 1] == '/');
}

static int contains(const char *text, const char *part) {
    for (; *text; text++)
        if (starts_with(text, part)) return 1;
    return 0;
}

/* Whether a file is the function's own: below its folder, and no installed library or part of Python. */
static int is_own(const char *file) {
    int inside = 0;
    for (int i = 0; i < folder_count; i++) {
        if (folder_bases[i] == BASE_ROOT)
            inside |= is_below(file, folders[i]);
        else if (is_below(file, folders[i]))
            return 0;
    }
    return inside && !contains(file, "/site-packages/") && !contains(file, "/dist-packages/");
}

/* `"handler": {...}` of the innermost code that is the function's own; with `file` the innermost frame's file. The
 * caller has the interpreter's lock. */
static void innermost(char *origin, char *file, size_t room) {
    void *frame = py.PyEval_GetFrame();
    *origin = 0;
    if (file) *file = 0;
    if (frame) py.Py_IncRef(frame);
    for (int depth = 0; frame && depth < DEEPEST; depth++) {
        void *code = py.PyFrame_GetCode(frame), *name = py.PyObject_GetAttrString(code, "co_filename");
        const char *path = text_of(name);
        if (file && !depth) put_text(file, 0, room, path);
        if (is_own(path)) {
            void *function = py.PyObject_GetAttrString(code, "co_name");
            lock(&line_lock);
            const char *mark = alloc(1);
            put_text(origin, 0, ORIGIN,
                     format("\"handler\": {\"file\": $, \"function\": $, \"line\": #}", path, text_of(function),
                            (long)py.PyFrame_GetLineNumber(frame)));
            release(mark);
            unlock(&line_lock);
            if (function) py.Py_DecRef(function);
            depth = DEEPEST;
        }
        if (name) py.Py_DecRef(name);
        py.Py_DecRef(code);
        void *back = py.PyFrame_GetBack(frame);
        py.Py_DecRef(frame);
        frame = back;
    }
    if (frame) py.Py_DecRef(frame);
}

/* The same for a call that a thread of Python makes; '' where it is none, or runs in a child. */
static void who_calls(char *origin, int is_same_process) {
    *origin = 0;
    if (!has_python || !is_same_process || !py.PyGILState_GetThisThreadState()) return;
    int state = py.PyGILState_Ensure();
    if (!py.PyErr_Occurred()) innermost(origin, NULL, 0);
    py.PyGILState_Release(state);
}

/* What no pickle needs: names that make a process or code. */
static int is_gadget(const char *module, const char *name, int *makes_process) {
    static const char processes[] = "os.system\0posix.system\0os.popen\0os.fork\0posix.fork\0pty.spawn\0"
                                    "posix.posix_spawn\0os.posix_spawn\0subprocess.*\0_posixsubprocess.*\0"
                                    "commands.*\0os.execv\0posix.execv\0os.execve\0posix.execve\0nt.system\0";
    static const char code[] = "builtins.eval\0builtins.exec\0builtins.compile\0builtins.__import__\0__builtin__.eval\0"
                               "__builtin__.exec\0runpy.*\0code.*\0codeop.*\0ctypes.*\0importlib.import_module\0"
                               "timeit.*\0cProfile.*\0profile.*\0bdb.*\0pdb.*\0webbrowser.*\0pip.*\0";
    char whole[TOLD];
    size_t n = put_text(whole, 0, sizeof whole, module);
    n = put_text(whole, n, sizeof whole, ".");
    put_text(whole, n, sizeof whole, name);
    for (int second = 0; second < 2; second++)
        for (const char *at = second ? code : processes; *at; at = next_text(at)) {
            size_t length = text_length(at);
            int any = at[length - 1] == '*';
            if (any ? same_bytes(at, whole, length - 1 < text_length(whole) ? length - 1 : text_length(whole) + 1)
                    : same(at, whole)) {
                *makes_process = !second;
                return 1;
            }
        }
    return 0;
}

static int allows_processes(void) {
    uint64_t registers[6] = {SIGCHLD};
    return !filtered(NR_clone, registers) && policy.exec == EXEC_GRANTED;
}

static void report_event(const char *event, const char *target, int code, const char *reason, const char *origin);

/* From which files code from strings was reported: each once. */
static int is_told_already(const char *file) {
    static uint32_t known[TOLD];
    static uint32_t count;
    uint32_t hash = gnu_hash(file);
    for (uint32_t i = 0; i < count; i++)
        if (known[i] == hash) return 1;
    if (count == TOLD) return 1;
    known[count++] = hash;
    return 0;
}

static int on_event(const char *event, void *registers, void *nothing) {
    char origin[ORIGIN], file[TARGET];
    (void)nothing;
    if (*event == 'p' && same(event, "pickle.find_class")) {
        char shown[TOLD];
        int makes_process = 0;
        const char *module = text_of(py.PyTuple_GetItem(registers, 0)),
                   *name = text_of(py.PyTuple_GetItem(registers, 1));
        if (!is_gadget(module, name, &makes_process) || (makes_process && allows_processes())) return 0;
        size_t n = put_text(shown, 0, sizeof shown, module);
        put_text(shown, put_text(shown, n, sizeof shown, "."), sizeof shown, name);
        innermost(origin, NULL, 0);
        report_event(event, shown, EPERM, "a pickle asks for what makes a process or code", origin);
        if (is_audit) return 0;
        py.PyErr_SetString(*py.PyExc_PermissionError, "the sandbox refused what this pickle asks for");
        return -1;
    }
    if (phase != INVOKE) return 0;
    int compiles = *event == 'c' && same(event, "compile"), loads = *event == 'c' && same(event, "ctypes.dlopen");
    if (!compiles && !loads) return 0;
    const char *what = text_of(py.PyTuple_GetItem(registers, compiles ? 1 : 0));
    if (compiles ? *what != '<' || starts_with(what, "<frozen") : !*what) return 0;
    innermost(origin, file, sizeof file);
    /* Only what the function's own code does itself: libraries make code of strings as they are loaded. */
    if (!is_own(file) || is_told_already(file)) return 0;
    report_event(event, what, 0, compiles ? "code from a string" : "a library by its name", origin);
    return 0;
}

#endif
