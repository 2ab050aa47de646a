# CMake reads this from the environment variable CMAKE_TOOLCHAIN_FILE: no patch of Horovod's build.
set(CMAKE_PROJECT_INCLUDE "${CMAKE_CURRENT_LIST_DIR}/overrides.cmake")
