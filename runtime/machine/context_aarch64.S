/* machine/context_aarch64.S - saves one machine context and takes up another; AAPCS64.
 *
 * void weft__context_swap(void **save_sp, void *to_sp)
 *
 * x19-x28, x29, x30 and d8-d15 are what a call preserves. FPCR belongs to the worker and is not saved. By ret to one that
 * had called from the same place, by br to others: context_x86_64.S says why.
 *
 * int weft__context_swap_with(void **save_sp, void *to_sp, at_int *word, uint32_t value, int rc)
 *
 * The same; then, when all of the context that is left has been saved, release-stores the value, and `rc` is what the call
 * returns that is taken up.
 */
        .macro  SAVE
        sub     sp, sp, #160
        .cfi_def_cfa_offset 160
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
        .cfi_offset x19, -160
        .cfi_offset x20, -152
        .cfi_offset x21, -144
        .cfi_offset x22, -136
        .cfi_offset x23, -128
        .cfi_offset x24, -120
        .cfi_offset x25, -112
        .cfi_offset x26, -104
        .cfi_offset x27, -96
        .cfi_offset x28, -88
        .cfi_offset x29, -80
        .cfi_offset x30, -72
        .cfi_offset d8, -64
        .cfi_offset d9, -56
        .cfi_offset d10, -48
        .cfi_offset d11, -40
        .cfi_offset d12, -32
        .cfi_offset d13, -24
        .cfi_offset d14, -16
        .cfi_offset d15, -8
        .endm

        .macro  RESTORE
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
        .cfi_def_cfa_offset 0
        .cfi_restore x19
        .cfi_restore x20
        .cfi_restore x21
        .cfi_restore x22
        .cfi_restore x23
        .cfi_restore x24
        .cfi_restore x25
        .cfi_restore x26
        .cfi_restore x27
        .cfi_restore x28
        .cfi_restore x29
        .cfi_restore x30
        .cfi_restore d8
        .cfi_restore d9
        .cfi_restore d10
        .cfi_restore d11
        .cfi_restore d12
        .cfi_restore d13
        .cfi_restore d14
        .cfi_restore d15
        .endm

        .text
        .p2align 4
        .globl  weft__context_swap
        .hidden weft__context_swap
        .type   weft__context_swap, %function
weft__context_swap:
        .cfi_startproc
        mov     x10, x30
        SAVE
        mov     x9, sp
        str     x9, [x0]
        mov     sp, x1          /* the other stack, where the same lies in the same places */
        RESTORE
        cmp     x10, x30
        b.ne    1f
        ret
1:      br      x30
        .cfi_endproc
        .size   weft__context_swap, . - weft__context_swap

        .p2align 4
        .globl  weft__context_swap_with
        .hidden weft__context_swap_with
        .type   weft__context_swap_with, %function
weft__context_swap_with:
        .cfi_startproc
        SAVE
        mov     x9, sp
        str     x9, [x0]
        mov     sp, x1
        stlr    w3, [x2]
        mov     w0, w4
        RESTORE
        br      x30
        .cfi_endproc
        .size   weft__context_swap_with, . - weft__context_swap_with

/* Where a new context begins: x19 is the function, x20 its argument. It has no caller, and says so to unwinders: x30 is
 * undefined here and x29 is zero, so that also a walk by frame pointers ends.
 * Unwinders look up the instruction before a return address, which the first switch to a context takes this for. */
        .p2align 4
        .cfi_startproc
        .cfi_undefined x30
        nop
        .globl  weft__context_entry
        .hidden weft__context_entry
        .type   weft__context_entry, %function
weft__context_entry:
        mov     x29, #0
        mov     x30, #0
        mov     x0, x20
        blr     x19
        brk     #1
        .cfi_endproc
        .size   weft__context_entry, . - weft__context_entry

        .section .note.GNU-stack, "", %progbits
