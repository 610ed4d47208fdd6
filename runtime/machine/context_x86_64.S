/* machine/context_x86_64.S - saves one machine context and takes up another; SysV ABI.
 *
 * void weft__context_swap(void **save_sp, void *to_sp)
 *
 * Saves what a call preserves, on the stack that is left; the stack pointer alone stands for the rest.
 *
 * The processor predicts returns from the calls that were made, which are those of who leaves. Who is taken up had, as a rule,
 * called from the same place: then ret is predicted rightly, and so are the returns of the callers above, up to where the two
 * differ; a jump would leave an entry too many, and all of them would miss (a yield between two tasks takes 39 ns and not
 * 64). From another place it is a jump, since ret would miss for certain (2.6 against 7.6 ns).
 *
 * int weft__context_swap_with(void **save_sp, void *to_sp, at_int *word, uint32_t value, int rc)
 *
 * The same; then, when all of the context that is left has been saved, release-stores the value, and `rc` is what the call
 * returns that is taken up. Its callers end with it, so that it goes back from there to where they were called, by the
 * same indirect jump: two functions between which a switch happened, each of which the other's call returns from, would
 * miss both returns.
 *
 * The floating-point control words belong to the worker and are not saved (sched/sched.c, keep_fp).
 * With -fcf-protection=branch the file says that it keeps that rule: no indirect jump to where there is no endbr64 but by
 * notrack. A shadow stack it cannot have, which would have to be switched as well.
 */
#if defined(__CET__) && (__CET__ & 1)
#define NOTRACK notrack
#define ENDBR endbr64
#else
#define NOTRACK
#define ENDBR
#endif

        .macro  SAVE
        pushq   %rbp
        .cfi_adjust_cfa_offset 8
        .cfi_rel_offset rbp, 0
        pushq   %rbx
        .cfi_adjust_cfa_offset 8
        .cfi_rel_offset rbx, 0
        pushq   %r12
        .cfi_adjust_cfa_offset 8
        .cfi_rel_offset r12, 0
        pushq   %r13
        .cfi_adjust_cfa_offset 8
        .cfi_rel_offset r13, 0
        pushq   %r14
        .cfi_adjust_cfa_offset 8
        .cfi_rel_offset r14, 0
        pushq   %r15
        .cfi_adjust_cfa_offset 8
        .cfi_rel_offset r15, 0
        .endm

        .macro  RESTORE
        popq    %r15
        .cfi_adjust_cfa_offset -8
        .cfi_restore r15
        popq    %r14
        .cfi_adjust_cfa_offset -8
        .cfi_restore r14
        popq    %r13
        .cfi_adjust_cfa_offset -8
        .cfi_restore r13
        popq    %r12
        .cfi_adjust_cfa_offset -8
        .cfi_restore r12
        popq    %rbx
        .cfi_adjust_cfa_offset -8
        .cfi_restore rbx
        popq    %rbp
        .cfi_adjust_cfa_offset -8
        .cfi_restore rbp
        .endm

        .text
        .p2align 4
        .globl  weft__context_swap
        .hidden weft__context_swap
        .type   weft__context_swap, @function
weft__context_swap:
        .cfi_startproc
        ENDBR
        movq    (%rsp), %rax
        SAVE
        movq    %rsp, (%rdi)
        movq    %rsi, %rsp      /* the other stack, where the same lies in the same places */
        RESTORE
        cmpq    (%rsp), %rax
        jne     1f
        ret
1:      popq    %rcx
        .cfi_adjust_cfa_offset -8
        .cfi_register rip, rcx
        NOTRACK jmp *%rcx
        .cfi_endproc
        .size   weft__context_swap, . - weft__context_swap

        .p2align 4
        .globl  weft__context_swap_with
        .hidden weft__context_swap_with
        .type   weft__context_swap_with, @function
weft__context_swap_with:
        .cfi_startproc
        ENDBR
        SAVE
        movq    %rsp, (%rdi)
        movq    %rsi, %rsp
        movl    %ecx, (%rdx)    /* a release, as every store here is one */
        movl    %r8d, %eax
        RESTORE
        popq    %rcx
        .cfi_adjust_cfa_offset -8
        .cfi_register rip, rcx
        NOTRACK jmp *%rcx
        .cfi_endproc
        .size   weft__context_swap_with, . - weft__context_swap_with

/* Where a new context begins: rbx is the function, r12 its argument (context.c put them there). It has no
 * caller, and says so to unwinders: rip is undefined here and rbp is zero, so that also a walk by frame pointers ends.
 * Unwinders look up the byte before a return address, which the first switch to a context takes this for. */
        .p2align 4
        .cfi_startproc
        .cfi_undefined rip
        nop
        .globl  weft__context_entry
        .hidden weft__context_entry
        .type   weft__context_entry, @function
weft__context_entry:
        xorl    %ebp, %ebp
        movq    %r12, %rdi
        call    *%rbx
        ud2
        .cfi_endproc
        .size   weft__context_entry, . - weft__context_entry

        .section .note.GNU-stack, "", @progbits

#if defined(__CET__) && (__CET__ & 1)
        .section .note.gnu.property, "a", @note
        .p2align 3
        .long   4, 16, 5, 0x554e47      /* "GNU": properties, */
        .long   0xc0000002, 4, 1, 0     /* of x86: indirect branch tracking */
#endif
