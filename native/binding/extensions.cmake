# The two doors of the Python binding, both for the limited API where the interpreter has one:
# _engine (cffi, contains the engine) and _short (CPython only; is handed the engine at run time).
find_package(Python REQUIRED COMPONENTS Interpreter Development.Module ${SKBUILD_SABI_COMPONENT})

set(door_options MODULE WITH_SOABI)
if(SKBUILD_SABI_VERSION)
  list(APPEND door_options USE_SABI ${SKBUILD_SABI_VERSION})
endif()

include(CheckIPOSupported)
check_ipo_supported(RESULT link_time_optimisation LANGUAGES C)
if(link_time_optimisation AND CMAKE_BUILD_TYPE STREQUAL "Release" AND NOT PMC_SANITIZE)
  set(CMAKE_INTERPROCEDURAL_OPTIMIZATION ON)
  set_property(TARGET pmemcache PROPERTY INTERPROCEDURAL_OPTIMIZATION ON)
endif()

set(binding_dir "${CMAKE_CURRENT_SOURCE_DIR}/binding")
set(engine_door "${CMAKE_CURRENT_BINARY_DIR}/_engine.c")
add_custom_command(
  OUTPUT "${engine_door}"
  COMMAND "${Python_EXECUTABLE}" -m cffi.gen_src read-sources pmemcache._engine
          "${binding_dir}/engine.cdef.h" "${binding_dir}/engine.prelude.h" "${engine_door}"
  DEPENDS "${binding_dir}/engine.cdef.h" "${binding_dir}/engine.prelude.h"
  COMMENT "Generating the cffi door"
  VERBATIM)
Python_add_library(_engine ${door_options} "${engine_door}")
target_include_directories(_engine PRIVATE "${binding_dir}")
target_link_libraries(_engine PRIVATE pmemcache)
install(TARGETS _engine DESTINATION pmemcache)

if(Python_INTERPRETER_ID STREQUAL "Python")
  Python_add_library(_short ${door_options} binding/short_door.c binding/plain_codec.c
                     binding/plain_read.c binding/plain_write.c)
  target_include_directories(_short PRIVATE "${binding_dir}")
  target_link_libraries(_short PRIVATE pmemcache_flags pmemcache_warnings)
  install(TARGETS _short DESTINATION pmemcache)
endif()
