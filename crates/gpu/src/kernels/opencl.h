/* The words of OpenCL C that select.c and dots.c are written in. */
#define KERNEL kernel
#define GLOBAL global
#define SHARED local
#define SHARED_ARGUMENT local
#define FUNCTION
#define BARRIER() barrier(CLK_LOCAL_MEM_FENCE)
#define THREAD() ((uint)get_local_id(0))
#define GROUP_X() ((uint)get_group_id(0))
#define GROUP_Y() ((uint)get_group_id(1))
#define ATOMIC_INCREMENT(counter) atomic_inc(counter)
#define FLOAT_BITS(x) as_uint(x)
#define MULTIPLY_ADD(a, b, c) mad(a, b, c)
