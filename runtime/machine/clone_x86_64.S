/* machine/clone_x86_64.S - clone3(2); SysV ABI.
 *
 * int weft__clone3(const struct weft__clone_args *args, uint64_t args_bytes, int (*fn)(void *), void *arg)
 *
 * The child finds all registers as they were but rax and rsp. It has no caller, and says so to unwinders. */
#if defined(__CET__) && (__CET__ & 1)
#define NOTRACK notrack
#define ENDBR endbr64
#else
#define NOTRACK
#define ENDBR
#endif
        .text
        .p2align 4
        .globl  weft__clone3
        .hidden weft__clone3
        .type   weft__clone3, @function
weft__clone3:
        .cfi_startproc
        ENDBR
        movq    %rcx, %r8       /* the system call loses rcx and r11 */
        movl    $435, %eax
        syscall
        testq   %rax, %rax
        jz      1f
        ret
        .cfi_undefined rip
1:      xorl    %ebp, %ebp
        movq    %r8, %rdi
        NOTRACK call *%rdx
        ud2
        .cfi_endproc
        .size   weft__clone3, . - weft__clone3

        .section .note.GNU-stack, "", @progbits

#if defined(__CET__) && (__CET__ & 1)
        .section .note.gnu.property, "a", @note
        .p2align 3
        .long   4, 16, 5, 0x554e47      /* "GNU": properties, */
        .long   0xc0000002, 4, 1, 0     /* of x86: indirect branch tracking */
#endif
