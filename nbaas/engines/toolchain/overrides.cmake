# Included after every project(): Horovod asks for C++14 and its Gloo for C++11, torch needs C++17.
foreach(_asked 11 14)
  set(CMAKE_CXX${_asked}_STANDARD_COMPILE_OPTION "-std=gnu++17")
  set(CMAKE_CXX${_asked}_EXTENSION_COMPILE_OPTION "-std=gnu++17")
endforeach()
# Debug information would be 17 of 18 MB of the wheel, and most of the link time.
string(REGEX REPLACE "(^| )-g( |$)" "\\1-g0\\2" CMAKE_CXX_FLAGS_RELWITHDEBINFO
  "${CMAKE_CXX_FLAGS_RELWITHDEBINFO}")
