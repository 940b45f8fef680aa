# Fails if a kernel object offers the linker any symbol but its own table. An inline function compiled
# for AVX-512 would otherwise be picked for the whole program and crash on lesser processors.
#   cmake -DNM=nm -DOBJECTS=a.o,b.o -DALLOWED=regex -P exported_symbols.cmake
string(REPLACE "," ";" objects "${OBJECTS}")
set(checked 0)
foreach(object IN LISTS objects)
  if(NOT object MATCHES "(kernels|linear)_v|weak_symbol")
    continue()
  endif()
  execute_process(COMMAND "${NM}" --extern-only --defined-only --demangle "${object}"
    OUTPUT_VARIABLE symbols COMMAND_ERROR_IS_FATAL ANY)
  string(REGEX MATCHALL "[^\n]+" lines "${symbols}")
  foreach(line IN LISTS lines)
    if(NOT line MATCHES "^[0-9a-f]+ T ${ALLOWED}$")
      message(SEND_ERROR "${object} exports: ${line}")
    endif()
  endforeach()
  math(EXPR checked "${checked} + 1")
endforeach()
if(checked EQUAL 0)
  message(FATAL_ERROR "no kernel object to check")
endif()
message(STATUS "${checked} kernel objects export their table alone")
