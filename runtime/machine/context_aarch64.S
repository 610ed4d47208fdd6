/* machine/context_aarch64.S - saves one machine context and takes up another; AAPCS64.
 *
 * void weft__context_swap(void **save_sp, void *to_sp)
 *
 * x19-x28, x29, x30 and d8-d15 are what a call preserves. FPCR belongs to the worker and is not saved.
 */
        .text
        .p2align 4
        .globl  weft__context_swap
        .hidden weft__context_swap
        .type   weft__context_swap, %function
weft__context_swap:
        .cfi_startproc
        sub     sp, sp, #160
        stp     x19, x20, [sp, #0]
        stp     x21, x22, [sp, #16]
        stp     x23, x24, [sp, #32]
        stp     x25, x26, [sp, #48]
        stp     x27, x28, [sp, #64]
        stp     x29, x30, [sp, #80]
        stp     d8, d9, [sp, #96]
        stp     d10, d11, [sp, #112]
        stp     d12, d13, [sp, #128]
        stp     d14, d15, [sp, #144]
        mov     x9, sp
        str     x9, [x0]
        mov     sp, x1
        ldp     x19, x20, [sp, #0]
        ldp     x21, x22, [sp, #16]
        ldp     x23, x24, [sp, #32]
        ldp     x25, x26, [sp, #48]
        ldp     x27, x28, [sp, #64]
        ldp     x29, x30, [sp, #80]
        ldp     d8, d9, [sp, #96]
        ldp     d10, d11, [sp, #112]
        ldp     d12, d13, [sp, #128]
        ldp     d14, d15, [sp, #144]
        add     sp, sp, #160
        br      x30
        .cfi_endproc
        .size   weft__context_swap, . - weft__context_swap

/* Where a new context begins: x19 is the function, x20 its argument. It has no caller, and says so. */
        .p2align 4
        .globl  weft__context_entry
        .hidden weft__context_entry
        .type   weft__context_entry, %function
weft__context_entry:
        .cfi_startproc
        .cfi_undefined x30
        mov     x29, #0
        mov     x30, #0
        mov     x0, x20
        blr     x19
        brk     #1
        .cfi_endproc
        .size   weft__context_entry, . - weft__context_entry

        .section .note.GNU-stack, "", %progbits
