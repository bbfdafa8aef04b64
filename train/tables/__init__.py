"""Tables: columns of mixed types in, a generator of such columns out.

::

    sources   files → batches of rows                     coding    numbers → codes, and back
    profile   batches → what each column holds            coded     a table → the codes that families are fitted to
    decide    profiles → each column's type, or a reason  trees/, mixture/, networks/  families
    personal  names, mail, phone, identity numbers        decode    codes → values, by arrays of look-ups
    values    a column → numbers and what is missing      model     what draws codes, and decode: rows from latents
    constraints/  what holds in every row

Shape suffixes of this package: N rows, D columns, K codes of a column, C components, S codes of all columns together,
B batch, Z latents, Y classes of the target.
"""
