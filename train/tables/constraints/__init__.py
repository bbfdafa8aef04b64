"""Constraints on the columns of a table that hold in every row that is made of it.

::

    grammar      "start <= end" → types                 fit         a table → what is modelled in place of its columns
    consistent   whether they contradict each other     steps       and the steps back, as recorded
    measure      what the values of a column count      satisfy     rows that were drawn → rows that satisfy
    check        which rows violate a constraint        arithmetic  in NumPy; `export.tables.constraints`: in a graph
    resolve      a table → the columns that they name
"""
