/* The same words in CUDA C++. */
typedef unsigned int uint;
typedef unsigned long long ulong;
#define KERNEL extern "C" __global__
#define GLOBAL
#define SHARED __shared__
#define SHARED_ARGUMENT
#define FUNCTION static __device__ __forceinline__
#define BARRIER() __syncthreads()
#define THREAD() threadIdx.x
#define GROUP_X() blockIdx.x
#define GROUP_Y() blockIdx.y
#define ATOMIC_INCREMENT(counter) atomicAdd(counter, 1u)
#define FLOAT_BITS(x) __float_as_uint(x)
#define MULTIPLY_ADD(a, b, c) fmaf(a, b, c)
